import type { ConditionPart, Mirror, ServiceRef } from "../api/agent.generated";

/** A service as people write it: `namespace/name`. */
export function refText(ref: ServiceRef): string {
  return `${ref.namespace}/${ref.name}`;
}

function partInWords({ kind, key, value }: ConditionPart, owner: string): string {
  const named = key ?? "";
  const wanted = value ?? "";
  switch (kind) {
    case "default":
      return "every request";
    case "user":
      return `requests of ${owner === "" ? "its owner" : owner}`;
    case "header":
    case "baggage":
      return `${kind} ${named}: ${wanted}`;
    case "cookie":
    case "query":
      return `${kind} ${named}=${wanted}`;
    case "percent":
      return key === null ? `${wanted} % by chance` : `${wanted} % by header ${named}`;
    default:
      // Also kinds of a later release, as they are.
      return [kind, key, value].filter((text) => text !== null && text !== "").join(" ");
  }
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
