import { State } from "../../parts";

/** What became of it. */
export function Outcome({ outcome }: { outcome: string }) {
  if (outcome === "ok") return <State tone="good">Done</State>;
  if (outcome === "denied") return <State tone="busy">Denied</State>;
  return <State tone="bad">{outcome === "failed" ? "Failed" : outcome}</State>;
}
