import type { ConditionPart, PortPair, Service, VariantView } from "../api/agent.generated";

/** The header by which requests name their user; a condition of kind `user` looks at it. */
export const USER_HEADER = "x-c6o-userid";

/** What a condition can look at, as `czctl serve --condition-type` spells it, in words for a form. */
export const CONDITION_KINDS = [
  { value: "user", label: "User" },
  { value: "header", label: "Header" },
  { value: "baggage", label: "Baggage" },
  { value: "query", label: "Query parameter" },
  { value: "cookie", label: "Cookie" },
  { value: "path", label: "Path" },
  { value: "method", label: "Method" },
  { value: "percent", label: "Percent of requests" },
  { value: "default", label: "Default" },
] as const;

export type ConditionKind = (typeof CONDITION_KINDS)[number]["value"];

const WITH_KEY: readonly string[] = ["header", "baggage", "query", "cookie"];
const WITHOUT_TEXT: readonly string[] = ["user", "default"];

/** Whether a kind of condition takes a key besides its value. */
export function takesKey(kind: string): boolean {
  return WITH_KEY.includes(kind);
}

/** Whether a kind of condition takes a value. */
export function takesValue(kind: string): boolean {
  return !WITHOUT_TEXT.includes(kind);
}

function partInWords({ kind, key, value }: ConditionPart): string {
  const text = value ?? "";
  if (kind === "percent") return `percent ${key === null ? "" : `${key}:`}${text}%`;
  // Also kinds of a later release, as they are.
  return [kind, key === null ? text : `${key}:${text}`].filter((word) => word !== "").join(" ");
}

/** A condition as czctl writes it: `header x-debug:alice and path /api`; none at all is `user`. */
export function conditionInWords(condition: readonly ConditionPart[]): string {
  return condition.length === 0 ? "user" : condition.map(partInWords).join(" and ");
}

/** Port pairs as they are given to `czctl serve`: `3000:80`, or `[::1]:3000:80`. */
export function pairInWords(pair: PortPair): string {
  const ports = `${String(pair.local)}:${String(pair.remote)}`;
  if (pair.host === null) return ports;
  return `${pair.host.includes(":") ? `[${pair.host}]` : pair.host}:${ports}`;
}

// As Python's `quote(..., safe="")`, so that the page and czctl write the same.
function quoted(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The lines that make a request meet the condition of a variant: what to send besides method, path and query. */
export function headersOf(condition: readonly ConditionPart[], user: string): string[] {
  const lines: string[] = [];
  const members: string[] = [];
  const cookies: string[] = [];
  for (const part of condition) {
    const value = part.value ?? "";
    if (part.kind === "user") lines.push(`${USER_HEADER}: ${user}`);
    else if (part.kind === "header") lines.push(`${part.key ?? ""}: ${value}`);
    else if (part.kind === "baggage") members.push(`${part.key ?? ""}=${quoted(value)}`);
    else if (part.kind === "cookie") cookies.push(`${part.key ?? ""}=${value}`);
  }
  if (members.length > 0) lines.push(`baggage: ${members.join(",")}`);
  if (cookies.length > 0) lines.push(`cookie: ${cookies.join("; ")}`);
  return lines;
}

function targetOf(condition: readonly ConditionPart[]): string {
  const path = condition.find((part) => part.kind === "path")?.value ?? "/";
  const query = condition
    .filter((part) => part.kind === "query")
    .map((part) => `${part.key ?? ""}=${quoted(part.value ?? "")}`)
    .join("&");
  return query === "" ? path : `${path}?${query}`;
}

function shellWord(word: string): string {
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", `'"'"'`)}'`;
}

// What is no HTTP (`codezero.routing.compile`), by `appProtocol` or the name of the port up to a dash.
const RAW = new Set(
  (
    "tcp tls ssl https wss kubernetes.io/wss mysql postgres postgresql mongo mongodb redis kafka " +
    "amqp amqps nats smtp ldap ssh mqtt"
  ).split(" "),
);
const KNOWN = new Set(["default", "user", "header", "baggage", "cookie", "query", "path", "method"]);

/** A curl command whose request meets the condition of a variant; undefined where none can be told, as for a percentage. */
export function curlTo(service: Service, variant: VariantView): string | undefined {
  if (variant.condition.some((part) => !KNOWN.has(part.kind))) return undefined;
  const raw = new Set(
    service.ports
      .filter((port) => RAW.has((port.app_protocol ?? port.name?.split("-")[0] ?? "").toLowerCase()))
      .map((port) => port.port),
  );
  const pair = variant.ports.find((one) => !raw.has(one.remote));
  if (pair === undefined) return undefined;
  const method = variant.condition.find((part) => part.kind === "method")?.value;
  const words = ["curl"];
  if (method === "HEAD") words.push("-I");
  else if (method !== undefined && method !== null) words.push("-X", method);
  for (const line of headersOf(variant.condition, variant.user)) words.push("-H", line);
  // The name that is never one of the internet's, whatever the namespace is called.
  const host = `${service.ref.name}.${service.ref.namespace}.svc`;
  const url = `http://${host}:${String(pair.remote)}${targetOf(variant.condition)}`;
  if (/[[\]{}]/.test(url)) words.push("-g");
  if (url.includes("/.")) words.push("--path-as-is");
  return [...words, url].map(shellWord).join(" ");
}
