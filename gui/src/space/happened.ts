import type { Activity, ActivityKind, ServiceRef } from "../api/agent.generated";

/** What the Hub keeps of what happened (`wire.hub_channel.Event`). */
export interface HubEvent {
  id: string;
  at: number;
  action: string;
  user: string;
  device: string;
  session: string;
  service: ServiceRef | null;
  variant: string;
  owner: string;
  detail: string;
  count: number | null;
  consumed: ServiceRef[];
}

/** Something that happened in a Teamspace, whoever told it. `user` did it (empty: nobody but time and the Teamspace), `owner` is whose variant it is about. */
export interface Happened {
  id: string;
  /** Seconds of UNIX time. */
  at: number;
  kind: ActivityKind | "requests" | "lost" | "other";
  user: string;
  device: string;
  session: string;
  owner: string;
  service: ServiceRef | null;
  variant: string;
  detail: string;
  count: number | null;
  consumed: ServiceRef[];
}

// `orchestrator.events` says which action is which kind.
const KIND_OF: Record<string, Happened["kind"]> = {
  "session.begin": "joined",
  "session.end": "left",
  "consume.begin": "consumed",
  "consume.end": "released",
  "stream.refuse": "refused",
  "serve.begin": "served",
  "serve.end": "unserved",
  "serve.expire": "expired",
  "serve.takeover": "taken-over",
  "serve.terminate": "terminated",
  "serve.contest": "contested",
  "serve.requests": "requests",
  "events.lost": "lost",
};

/** What the Hub tells. What a later release tells is shown by its own name. */
export function ofHub(event: HubEvent): Happened {
  const kind = KIND_OF[event.action] ?? "other";
  return {
    id: event.id,
    at: event.at,
    kind,
    user: event.user,
    device: event.device,
    session: event.session,
    owner: event.owner,
    service: event.service,
    variant: event.variant,
    detail: kind === "other" ? [event.action, event.detail].filter(Boolean).join(": ") : event.detail,
    count: event.count,
    consumed: event.consumed,
  };
}

/** What the agent tells, which has no ids: what is the same in all that it says gets a number after it. */
export function ofAgent(activities: readonly Activity[]): Happened[] {
  const seen = new Map<string, number>();
  return activities.map((one) => {
    const service = one.service === null ? "" : `${one.service.namespace}/${one.service.name}`;
    const content = [one.at, one.kind, one.session, service, one.variant, one.detail].join(" ");
    const number = seen.get(content) ?? 0;
    seen.set(content, number + 1);
    return {
      id: `${content} ${String(number)}`,
      at: one.at,
      kind: one.kind,
      user: one.device.user,
      device: one.device.device,
      session: one.session,
      owner: one.user,
      service: one.service,
      variant: one.variant,
      detail: one.detail,
      count: null,
      consumed: [],
    };
  });
}
