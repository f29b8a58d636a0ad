import type { Condition, MayAsked, Operation } from "../../api/hub.generated";
import type { Service } from "../../api/agent.generated";

/** What a policy is asked about, in words. */
export const OPERATIONS: Record<Operation, string> = {
  consume: "to reach a service, hence to see it",
  serve: "to answer requests, by what the condition takes",
  "serve-user": "to answer one's own requests",
  "serve-header":
    "to answer requests that carry a name: a header, baggage, a cookie, a query parameter; and a percentage",
  "serve-default": "to answer requests of everybody; a condition of path or method alone is that, too",
  mirror: "to get copies of requests, whatever the condition",
  takeover: "to replace what somebody else serves under the same condition",
  terminate: "to end what somebody else serves",
};

export const ALL_OPERATIONS: readonly Operation[] = [
  "consume",
  "serve",
  "serve-user",
  "serve-header",
  "serve-default",
  "mirror",
  "takeover",
  "terminate",
];

export function isOperation(text: string | undefined): text is Operation {
  return text !== undefined && Object.hasOwn(OPERATIONS, text);
}

const NAMING = ["header", "baggage", "query", "cookie", "percent"];
const ALL = ["user", ...NAMING, "path", "method", "default"];

/** The kinds of condition that an operation can be asked about; none where it has no condition. */
export function conditionsOf(operation: Operation): readonly string[] {
  switch (operation) {
    case "consume":
    case "terminate":
      return [];
    case "serve-user":
      return ["user"];
    case "serve-header":
      return NAMING;
    case "serve-default":
      return ["default", "path", "method"];
    default:
      return ALL;
  }
}

/** What the text of a condition is like; undefined for one that takes none. */
export function exampleOf(kind: string): string | undefined {
  switch (kind) {
    case "user":
    case "default":
      return undefined;
    case "path":
      return "/api";
    case "method":
      return "GET";
    case "percent":
      return "10 or x-session:10";
    default:
      return "x-team:blue";
  }
}

/** A condition as `czctl serve --condition-type KIND --condition TEXT` spells it. */
export function conditionFrom(kind: string, text: string): Condition {
  const example = exampleOf(kind);
  if (example === undefined) return { type: kind };
  const value = text.trim();
  const at = value.indexOf(":");
  if (kind === "path" || kind === "method" || (kind === "percent" && at < 0)) return { type: kind, value };
  return { type: kind, key: value.slice(0, Math.max(0, at)).trim(), value: value.slice(at + 1).trim() };
}

/** Why a text is no condition of that kind; null where it may be one, which the Hub decides. */
export function whyNoCondition(kind: string, text: string): string | null {
  const example = exampleOf(kind);
  if (example === undefined) return null;
  if (text.trim() === "") return `Give one, such as ${example}`;
  const needsKey = NAMING.includes(kind) && kind !== "percent";
  return needsKey && !/^[^:]+:/.test(text.trim()) ? `Write KEY:VALUE, such as ${example}` : null;
}

/** The ports that a text names (`80, 443`); null where it is no list of ports. */
export function portsFrom(text: string): number[] | null {
  const words = text.split(/[\s,]+/).filter((word) => word !== "");
  const ports = words.map(Number);
  const areAll =
    words.every((word) => /^[0-9]{1,5}$/.test(word)) && ports.every((port) => port >= 1 && port <= 65535);
  return areAll && ports.length <= 16 ? [...new Set(ports)] : null;
}

export function whyNoService(text: string): string | null {
  return /^[a-z0-9-]+[./][a-z0-9-]+$/.test(text) && text.length <= 127
    ? null
    : "Name a service as NAMESPACE/NAME, such as shop/orders";
}

export function nameOf(service: Service): string {
  return `${service.ref.namespace}/${service.ref.name}`;
}

/** The ports of a service that can be served. */
export function portsOf(service: Service | undefined): number[] {
  const ports = (service?.ports ?? []).filter((port) => port.protocol === "TCP").map((port) => port.port);
  return [...new Set(ports)].slice(0, 16);
}

/** How czctl is asked the same. */
export function commandOf(asked: MayAsked, where: { organization: string; space: string }): string {
  const words = ["czctl", "auth", "can-i", asked.operation, asked.service];
  const { condition } = asked;
  if (condition !== null && condition !== undefined) {
    words.push("--condition-type", condition.type);
    const value = condition.value ?? null;
    const key = condition.key ?? null;
    if (value !== null) words.push("--condition", key === null ? value : `${key}:${value}`);
  }
  if (asked.as !== null && asked.as !== undefined) words.push("--as", asked.as);
  words.push("--org", where.organization, "--space", where.space);
  return words.map(shellWord).join(" ");
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** `by header x-team:blue, port 80`; empty where there is nothing to say. */
export function conditionInWords({ condition, ports }: MayAsked): string {
  const parts: string[] = [];
  if (condition !== null && condition !== undefined) {
    const text = [condition.key, condition.value]
      .filter((one) => one !== null && one !== undefined)
      .join(":");
    parts.push(text === "" ? `by ${condition.type}` : `by ${condition.type} ${text}`);
  }
  if (ports !== undefined && ports.length > 0)
    parts.push(`${ports.length === 1 ? "port" : "ports"} ${ports.join(", ")}`);
  return parts.join(", ");
}
