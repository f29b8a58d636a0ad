import type { Direction, MirrorRecord, TraceLine, TraceRecord } from "../../api/agent.generated";
import { refOf } from "../../space/services";

/** A request or connection that ended, or a mirrored one, with a number of its own. */
export type Traced =
  | { id: number; at: number; type: "request"; record: TraceRecord }
  | { id: number; at: number; type: "mirror"; mirror: MirrorRecord };

export const KEPT = 500;

export interface TraceState {
  isOn: boolean;
  /** Newest first, at most `KEPT`. */
  lines: readonly Traced[];
  /** How many the agent did not tell, for there was too much going on. */
  dropped: number;
  /** How many were told and are kept no more. */
  forgotten: number;
  error: unknown;
}

export const NOTHING_TRACED: TraceState = { isOn: false, lines: [], dropped: 0, forgotten: 0, error: null };

// The agent leaves out what is as it is by default.
const DEFAULTS = {
  user: "",
  variant: "",
  why: "",
  method: "",
  path: "",
  status: 0,
  sent: 0,
  received: 0,
  milliseconds: 0,
  fallback: "",
  error: "",
};

/** The state after those lines of the stream. */
export function withLines(state: TraceState, lines: readonly TraceLine[]): TraceState {
  const first = (state.lines[0]?.id ?? 0) + 1;
  const added: Traced[] = [];
  let dropped = state.dropped;
  for (const line of lines) {
    dropped += line.dropped ?? 0;
    const { record, mirror } = line;
    if (record !== null && record !== undefined)
      added.push({
        id: first + added.length,
        at: record.at,
        type: "request",
        record: { ...DEFAULTS, ...record },
      });
    if (mirror !== null && mirror !== undefined)
      added.push({ id: first + added.length, at: mirror.at, type: "mirror", mirror });
  }
  const all = [...added.reverse(), ...state.lines];
  return {
    ...state,
    lines: all.slice(0, KEPT),
    dropped,
    forgotten: state.forgotten + Math.max(0, all.length - KEPT),
  };
}

export function serviceOf(one: Traced): string {
  return refOf(one.type === "request" ? one.record.service : one.mirror.service);
}

/** What a mirror gets, this machine serves. */
export function directionOf(one: Traced): Direction {
  return one.type === "request" ? one.record.direction : "serve";
}

export function portOf(one: Traced): number {
  return one.type === "request" ? one.record.port : one.mirror.port;
}

/** What was asked: method and path, or the protocol of a connection that is not HTTP. */
export function askedIn(one: Traced): string {
  const { method, path } = one.type === "request" ? one.record : one.mirror;
  if (method !== "") return `${method} ${path}`;
  return one.type === "request" ? one.record.protocol : "";
}

/** Who decided, in a few words. Of what is consumed this machine does not know who answered. */
export function decidedIn(one: Traced): string {
  if (one.type === "mirror") return "origin, copied to your mirror";
  const { record } = one;
  if (record.direction === "consume") return "not known here";
  if (record.fallback !== "") return "origin, in place of a variant";
  if (record.variant !== "") return "variant";
  return "origin";
}

export interface TraceFilter {
  text: string;
  direction: string;
  service: string;
}

export function fits(one: Traced, filter: TraceFilter): boolean {
  if (filter.direction !== "" && directionOf(one) !== filter.direction) return false;
  if (filter.service !== "" && serviceOf(one) !== filter.service) return false;
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const told =
    one.type === "request"
      ? [one.record.why, String(one.record.status), one.record.fallback, one.record.error]
      : one.mirror.differences.map((difference) => difference.what);
  const content = [serviceOf(one), askedIn(one), decidedIn(one), ...told].join(" ").toLowerCase();
  return words.every((word) => content.includes(word));
}

/** A number of bytes, short, as czctl writes it. */
export function size(count: number): string {
  for (const [unit, least] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const)
    if (count >= least) return `${(count / least).toFixed(1)} ${unit}`;
  return `${String(count)} B`;
}

/** A duration of a request, short. */
export function lasted(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : milliseconds.toFixed(0)} ms`;
}
