import type {
  ConsumedService,
  HealthWarning,
  HostView,
  HubView,
  StatusView,
} from "../../api/agent.generated";
import type { Problem } from "../../api/problem";

type Tone = "good" | "busy" | "bad" | "quiet";

/** A number of bytes, short; as czctl writes them. */
export function sizeInWords(count: number): string {
  for (const [unit, least] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const)
    if (count >= least) return `${(count / least).toFixed(1)} ${unit}`;
  return `${String(count)} B`;
}

/** A duration in its largest whole unit; as czctl writes them. */
export function spanInWords(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [unit, size] of [
    ["d", 86_400],
    ["h", 3600],
    ["min", 60],
  ] as const)
    if (whole >= size) return `${String(Math.floor(whole / size))} ${unit}`;
  return `${String(whole)} s`;
}

/** How the tunnel to the Teamspace is, in a word. */
export function connectionOf(status: StatusView): { word: string; tone: Tone } {
  if (status.tunnel.state === "connected") return { word: "Connected", tone: "good" };
  return { word: "Connecting", tone: "busy" };
}

/** Most serious first, as they came otherwise. */
export function bySeverity(warnings: readonly HealthWarning[]): HealthWarning[] {
  const order = { error: 0, warning: 1, info: 2 };
  return [...warnings].sort((one, other) => order[one.severity] - order[other.severity]);
}

export const SEVERITIES: Record<HealthWarning["severity"], { word: string; color: string }> = {
  error: { word: "Error", color: "red" },
  warning: { word: "Warning", color: "yellow" },
  info: { word: "Note", color: "blue" },
};

// A command of ours in a sentence: up to four plain words behind it, and then the sentence ends or goes on after a mark. What has to be filled in
// (capital letters), or could be anything else to a shell, is not offered for copying.
const COMMAND =
  /(?:sudo )?cz(?:ctl|daemon)(?: (?:--)?[a-z0-9][a-z0-9-]*(?:\/[a-z0-9-]+)?){1,4}(?=$|[,;.)`])/g;

/** The commands that a next step names, and whether it says nothing else. */
export function commandsIn(fix: string): { commands: string[]; isAll: boolean } {
  const commands = [...new Set(fix.match(COMMAND) ?? [])];
  return { commands, isAll: commands[0] === fix.trim() };
}

/** How a consumed service is. */
export const CONSUME_STATES: Record<ConsumedService["state"], { word: string; tone: Tone }> = {
  enabled: { word: "Enabled", tone: "good" },
  unready: { word: "No ready pod", tone: "busy" },
  refused: { word: "Refused", tone: "bad" },
  conflict: { word: "Conflict", tone: "bad" },
  pending: { word: "Pending", tone: "busy" },
};

/** How the Hub is to the agent. */
export const HUB_STATES: Record<HubView["state"], { word: string; tone: Tone }> = {
  unknown: { word: "Not asked yet", tone: "quiet" },
  reachable: { word: "Reachable", tone: "good" },
  unreachable: { word: "Not reachable", tone: "bad" },
  refused: { word: "Refuses this machine", tone: "bad" },
};

/** How the machine is set up for consuming. */
export function captureInWords(host: HostView): string {
  const how =
    { nftables: "by packet rules (nftables)", listeners: "by listeners" }[host.capture] ?? host.capture;
  return `${how}, ${count(host.captured_ports, "port")}`;
}

export function namesInWords(host: HostView): string {
  const how =
    {
      "resolv.conf": "by its own DNS server in resolv.conf",
      hosts: "by the hosts file",
      none: "not at all",
    }[host.names] ?? host.names;
  return `${how}, ${count(host.published_names, "name")}`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${String(number)} ${number === 1 ? one : many}`;
}

/** Whether it is the console that does not answer, or does not let this page in: of the agent nothing is known then. */
export function isOfConsole(problem: Problem): boolean {
  return problem.status === 0 || problem.code.startsWith("CZ-CONSOLE-");
}
