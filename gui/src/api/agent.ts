import type {
  ActivityView,
  ConsumeChange,
  ConsumeView,
  Event,
  PairedView,
  PairingEnd,
  PairingMade,
  PairingWanted,
  PresenceView,
  ServeChange,
  ServeEnd,
  ServeResult,
  ServesView,
  ServicesView,
  StatusView,
  TraceLine,
} from "./agent.generated";
import { askMachine } from "../channel/asking";
import type { Asked } from "../channel/proof";

async function ask<T>(
  method: Asked["method"],
  target: string,
  body?: unknown,
  signal?: AbortSignal,
  by: (asked: Asked) => Promise<Response> = askMachine,
): Promise<T> {
  const answer = await by({ method, target, body: body === undefined ? "" : JSON.stringify(body), signal });
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

/** The lines of a stream as they come, until `signal` or the other end says enough. */
async function* lines<T>(target: string, signal: AbortSignal, opened?: () => void): AsyncGenerator<T> {
  const answer = await askMachine({ method: "GET", target, body: "", signal });
  opened?.();
  if (answer.body === null) return;
  let rest = "";
  const decoder = new TextDecoder();
  for await (const part of answer.body) {
    const whole = (rest + decoder.decode(part, { stream: true })).split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) if (line !== "") yield JSON.parse(line) as T;
  }
}

/** The agent of this machine (`wire.local_api`), and its pairings (`wire.paired`), as far as this page has a way to them. Refusals are thrown as `Problem`. */
export const agent = {
  status: () => ask<StatusView>("GET", "/agent/v1/status"),
  services: () => ask<ServicesView>("GET", "/agent/v1/services"),
  consume: () => ask<ConsumeView>("GET", "/agent/v1/consume"),
  changeConsume: (change: ConsumeChange) => ask<ConsumeView>("PUT", "/agent/v1/consume", change),
  testConsume: (change: ConsumeChange, signal?: AbortSignal) =>
    ask<ConsumeView>("POST", "/agent/v1/consume/test", change, signal),
  selectPrimaryNamespace: (namespace: string | null) =>
    ask<ConsumeView>("PUT", "/agent/v1/primary-namespace", { namespace }),
  serves: () => ask<ServesView>("GET", "/agent/v1/serve"),
  serve: (change: ServeChange, signal?: AbortSignal) =>
    ask<ServeResult>("POST", "/agent/v1/serve", change, signal),
  endServe: (change: ServeEnd) => ask<ServeResult>("POST", "/agent/v1/serve/end", change),
  presence: () => ask<PresenceView>("GET", "/agent/v1/presence"),
  activity: () => ask<ActivityView>("GET", "/agent/v1/activity"),
  leaveTeamspace: () => ask<StatusView>("DELETE", "/agent/v1/teamspace"),
  reset: () => ask<ConsumeView>("POST", "/agent/v1/reset"),
  /** `by` is the way of a page that is not paired yet. */
  pair: (wanted: PairingWanted, by: (asked: Asked) => Promise<Response>) =>
    ask<PairingMade>("POST", "/paired/v1/pairings", wanted, undefined, by),
  pairings: () => ask<PairedView>("GET", "/paired/v1/pairings"),
  revokePairing: (end: PairingEnd) => ask<undefined>("POST", "/paired/v1/pairings/revoke", end),
  events: (signal: AbortSignal, opened: () => void) => lines<Event>("/agent/v1/events", signal, opened),
  traces: (signal: AbortSignal, opened: () => void) => lines<TraceLine>("/agent/v1/traces", signal, opened),
};

/** What the local console does for its user besides the agent's own API; a paired machine does `selectTeamspace` alone. */
export const localConsole = {
  signIn: (code: string) => ask<undefined>("POST", "/console/session", { code }),
  startAgent: () => ask<undefined>("POST", "/console/agent/start"),
  stopAgent: () => ask<undefined>("POST", "/console/agent/stop"),
  /** How the agent is then; undefined where none runs: it goes there when it starts. */
  selectTeamspace: (organization: string, space: string) =>
    ask<StatusView | undefined>("POST", "/console/teamspace", { organization, space }),
};
