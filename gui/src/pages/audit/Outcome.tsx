import { State } from "../../parts";

/** What became of it. */
export function Outcome({ outcome }: { outcome: string }) {
  if (outcome === "ok") return <State tone="good">done</State>;
  return <State tone={outcome === "denied" ? "busy" : "bad"}>{outcome}</State>;
}
