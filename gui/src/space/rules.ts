import type { ServiceRef } from "../api/agent.generated";

interface Rule {
  namespace: string | null;
  service: string;
  excludes: boolean;
}

/** What a line of consume rules says (`codezero.model.consume`); undefined for blanks, comments, and what is no rule. */
function ruleOf(line: string): Rule | undefined {
  const text = (line.split("#")[0] ?? "").trim().toLowerCase();
  if (text === "") return undefined;
  const excludes = text.startsWith("!");
  let target = (text.replace(/^!\s*/, "").split(":")[0] ?? "").trim();
  for (const suffix of [".svc.cluster.local", ".svc"])
    if (target.endsWith(suffix) && target.slice(0, -suffix.length).includes(".")) {
      target = target.slice(0, -suffix.length);
      break;
    }
  const [first, second, more] = target.split(target.includes("/") ? "/" : ".");
  if (first === undefined || more !== undefined) return undefined;
  if (second === undefined) return { namespace: null, service: first, excludes };
  return target.includes("/")
    ? { namespace: first, service: second, excludes }
    : { namespace: second, service: first, excludes };
}

/** Without the lines that speak of this one service alone and include it (or exclude it). */
function without(
  lines: readonly string[],
  ref: ServiceRef,
  primaryNamespace: string | null,
  excludes: boolean,
): string[] {
  return lines.filter((line) => {
    const rule = ruleOf(line);
    return !(
      rule !== undefined &&
      rule.excludes === excludes &&
      rule.service === ref.name &&
      (rule.namespace ?? primaryNamespace) === ref.namespace
    );
  });
}

/**
 * The rules by which a service is consumed: without what excludes it by name, and, where those rules do not let in all of it, with a rule of its own at
 * the end: of the rules that match the last decides.
 */
export async function withService(
  lines: readonly string[],
  ref: ServiceRef,
  primaryNamespace: string | null,
  letsIn: (rules: string[]) => Promise<boolean>,
): Promise<string[]> {
  const rules = without(lines, ref, primaryNamespace, true);
  return (await letsIn(rules)) ? rules : [...rules, `${ref.namespace}/${ref.name}`];
}

/** The rules by which a service is not consumed: without those that name it, and, where others still let it in, with an exception at the end. */
export async function withoutService(
  lines: readonly string[],
  ref: ServiceRef,
  primaryNamespace: string | null,
  letsIn: (rules: string[]) => Promise<boolean>,
): Promise<string[]> {
  const rules = without(lines, ref, primaryNamespace, false);
  return (await letsIn(rules)) ? [...rules, `!${ref.namespace}/${ref.name}`] : rules;
}

/** The lines of a text, as a rules file has them. */
export function linesOf(text: string): string[] {
  const lines = text.split(/\r?\n/);
  while (lines.length > 0 && lines.at(-1)?.trim() === "") lines.pop();
  return lines;
}
