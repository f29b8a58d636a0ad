import type { ConditionPart, Mirror, PortPair, ServeChange, Service } from "../../api/agent.generated";
import { takesKey, takesValue } from "../../space/conditions";
import { refOf } from "../../space/services";

export interface ServeValues {
  ports: { remote: string; local: number | string; host: string }[];
  condition: { kind: string; key: string; value: string }[];
  /** Seconds, or empty for the longest. */
  expires: string;
  mirror: "none" | Mirror;
  restart: boolean;
  takeover: boolean;
}

/** What a serve begins with, where it follows another variant. */
export interface Beginning {
  condition?: ConditionPart[];
  ports?: PortPair[];
  takeover?: boolean;
}

/** The ports that can be served: traffic of other protocols passes no Router. */
export function servable(service: Service): Service["ports"] {
  return service.ports.filter((port) => port.protocol === "TCP");
}

export function begun(service: Service, from: Beginning): ServeValues {
  const first = servable(service)[0]?.port;
  const ports = from.ports ?? (first === undefined ? [] : [{ remote: first, local: first, host: null }]);
  const condition = from.condition ?? [];
  return {
    // Whose laptop answered before is not known to this one.
    ports: ports.map((pair) => ({ remote: String(pair.remote), local: pair.local, host: "" })),
    condition: (condition.length > 0 ? condition : [{ kind: "user", key: null, value: null }]).map(
      (part) => ({
        kind: part.kind,
        key: part.key ?? "",
        value: part.value ?? "",
      }),
    ),
    expires: "",
    mirror: "none",
    restart: false,
    takeover: from.takeover ?? false,
  };
}

function isPort(port: number | string): port is number {
  return typeof port === "number" && Number.isInteger(port) && port >= 1 && port <= 65_535;
}

/** What is wrong with a field, by its path in the form; the agent looks at the rest. */
export function wrongWith(values: ServeValues): Record<string, string> {
  const wrong: Record<string, string> = {};
  values.ports.forEach((pair, index) => {
    const at = `ports.${String(index)}`;
    if (pair.remote === "") wrong[`${at}.remote`] = "Choose a port";
    else if (values.ports.findIndex((other) => other.remote === pair.remote) < index)
      wrong[`${at}.remote`] = "Already above";
    if (!isPort(pair.local)) wrong[`${at}.local`] = "From 1 to 65535";
  });
  values.condition.forEach((part, index) => {
    const at = `condition.${String(index)}`;
    if (takesKey(part.kind) && part.key.trim() === "") wrong[`${at}.key`] = "Give a name";
    if (takesValue(part.kind) && part.value.trim() === "") wrong[`${at}.value`] = "Give a value";
    if (part.kind === "default" && values.condition.length > 1)
      wrong[`${at}.kind`] = "Takes every request, so it stands alone";
  });
  return wrong;
}

function hostOf(text: string): string | null {
  const host = text.trim().replace(/^\[|\]$/g, "");
  return host === "" || host.toLowerCase() === "localhost" ? null : host;
}

/** What the form asks for; undefined while something is missing. */
export function changeOf(service: Service, values: ServeValues): ServeChange | undefined {
  if (values.ports.length === 0 || Object.keys(wrongWith(values)).length > 0) return undefined;
  return {
    service: refOf(service.ref),
    ports: values.ports.map((pair) => ({
      remote: Number(pair.remote),
      local: Number(pair.local),
      host: hostOf(pair.host),
    })),
    condition: values.condition.map(({ kind, key, value }) => ({
      kind,
      key: takesKey(kind) ? key.trim() : null,
      value: takesValue(kind) ? value.trim() : null,
    })),
    expires_in: values.expires === "" ? null : Number(values.expires),
    mirror: values.mirror === "none" ? null : values.mirror,
    restart: values.restart,
    takeover: values.takeover,
  };
}
