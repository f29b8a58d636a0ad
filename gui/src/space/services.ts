import type { ConsumedService, Presence, Service, ServiceRef } from "../api/agent.generated";

/** A service as people write it: `namespace/name`. */
export function refOf(ref: ServiceRef): string {
  return `${ref.namespace}/${ref.name}`;
}

/** How a service finds its pods, in words. */
export const KINDS: Record<Service["kind"], string> = {
  "cluster-ip": "Cluster IP",
  headless: "Headless",
  selectorless: "Without selector",
  "external-name": "External name",
};

/** How the endpoints of a service are, in words. */
export function healthInWords(service: Service): string {
  if (service.kind === "external-name") return "outside";
  if (service.total === 0) return "no endpoints";
  return `${String(service.ready)} of ${String(service.total)} ready`;
}

/** How well a service is: `good`, `busy` (some of it is), `bad`. */
export function healthOf(service: Service): "good" | "busy" | "bad" {
  if (service.ready === 0) return "bad";
  const serving = service.serving?.state;
  if (service.ready < service.total || serving === "contested" || serving === "refused") return "busy";
  return "good";
}

/** The ports of a service in one line: `80 http, 5432 postgres, 53/UDP`. */
export function portsInWords(service: Service): string {
  return service.ports
    .map((port) => {
      const number = `${String(port.port)}${port.protocol === "TCP" ? "" : `/${port.protocol}`}`;
      return port.name === null ? number : `${number} ${port.name}`;
    })
    .join(", ");
}

/** What a consumed service is, in words, where all is well and where it is not. */
export function consumedInWords(consumed: ConsumedService): string {
  switch (consumed.state) {
    case "enabled":
      return "Consumed";
    case "unready":
      return "No ready endpoint";
    case "refused":
      return "Refused by policy";
    case "conflict":
      return "Conflict";
    case "pending":
      return "Pending";
  }
}

/** Who consumes a service: looks up `namespace` and `name` without making a text of each. */
export type Consumers = (ref: ServiceRef) => readonly Presence[];

const NOBODY: readonly Presence[] = [];

/** Who consumes which services. */
export function consumersOf(presences: readonly Presence[]): Consumers {
  const spaces = new Map<string, Map<string, Presence[]>>();
  for (const presence of presences)
    for (const ref of presence.consumes) {
      let names = spaces.get(ref.namespace);
      if (names === undefined) spaces.set(ref.namespace, (names = new Map()));
      const found = names.get(ref.name);
      if (found === undefined) names.set(ref.name, [presence]);
      else found.push(presence);
    }
  return (ref) => spaces.get(ref.namespace)?.get(ref.name) ?? NOBODY;
}
