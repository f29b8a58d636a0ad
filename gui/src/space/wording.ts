import type { ConditionPart, Mirror } from "../api/agent.generated";
import { conditionInWords as conditionAsWritten } from "./conditions";

function partInWords(part: ConditionPart, owner: string): string {
  if (part.kind === "default") return "every request";
  if (part.kind === "user") return `requests of ${owner === "" ? "its owner" : owner}`;
  return conditionAsWritten([part]);
}

/** Which requests a condition means, in words. No part at all is `user`. */
export function conditionInWords(parts: readonly ConditionPart[], owner: string): string {
  const all = parts.length === 0 ? [{ kind: "user", key: null, value: null }] : parts;
  return all.map((part) => partInWords(part, owner)).join(" and ");
}

/** What a variant answers or, as a mirror, gets copies of. */
export function answersInWords(variant: {
  condition: readonly ConditionPart[];
  user_name: string;
  mirror: Mirror | string | null;
}): string {
  const words = conditionInWords(variant.condition, variant.user_name);
  if (variant.mirror === null) return words;
  return `copies of ${words}${variant.mirror === "safe" ? " (safe methods)" : ""}`;
}
