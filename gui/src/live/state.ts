import { useSyncExternalStore } from "react";

/** How current what is shown is: `live`; `connecting` before the first word; `stale` since the stream broke. */
export type Liveness = "live" | "connecting" | "stale";
export type Source = "hub" | "agent";

const now: Record<Source, { liveness: Liveness; since: number }> = {
  hub: { liveness: "connecting", since: Date.now() },
  agent: { liveness: "connecting", since: Date.now() },
};
const listeners = new Set<() => void>();

/** Say how a source is. */
export function tell(source: Source, liveness: Liveness): void {
  if (now[source].liveness === liveness) return;
  now[source] = { liveness, since: Date.now() };
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** How current what comes from `source` is, and since when it is so (milliseconds of UNIX time). */
export function useLiveness(source: Source): { liveness: Liveness; since: number } {
  return useSyncExternalStore(subscribe, () => now[source]);
}
