import type { Service } from "../../api/agent.generated";
import { healthOf, refOf } from "../../space/services";

export const SHOWS = [
  { value: "all", label: "All" },
  { value: "consumed", label: "Consumed" },
  { value: "served", label: "Served" },
  { value: "unhealthy", label: "Unhealthy" },
] as const;

export type Show = (typeof SHOWS)[number]["value"];

/** What the address says to show; what it does not know is `all`. */
export function showOf(text: string | undefined): Show {
  return SHOWS.find((one) => one.value === text)?.value ?? "all";
}

export interface Filter {
  /** Words that must all be in `namespace/name`, a port, or the name of somebody who serves it. */
  q: string;
  namespace: string;
  show: Show;
}

function holds(service: Service, word: string): boolean {
  return (
    refOf(service.ref).includes(word) ||
    service.ports.some((port) => String(port.port) === word || (port.name?.includes(word) ?? false)) ||
    (service.serving?.variants.some((one) => one.user_name.toLowerCase().includes(word)) ?? false)
  );
}

/** Those services that the filter lets through. */
export function filtered(
  services: readonly Service[],
  filter: Filter,
  isConsumed: (service: Service) => boolean,
): Service[] {
  const words = filter.q.toLowerCase().split(/\s+/).filter(Boolean);
  const shows: Record<Show, (service: Service) => boolean> = {
    all: () => true,
    consumed: isConsumed,
    served: (service) => (service.serving?.variants.length ?? 0) > 0,
    unhealthy: (service) => healthOf(service) !== "good",
  };
  const shown = shows[filter.show];
  return services.filter(
    (service) =>
      (filter.namespace === "" || service.ref.namespace === filter.namespace) &&
      shown(service) &&
      words.every((word) => holds(service, word)),
  );
}

/** The namespaces of services, sorted, each once. */
export function namespacesOf(services: readonly Service[]): string[] {
  return [...new Set(services.map((one) => one.ref.namespace))].sort();
}
