import type { Space } from "../../api/hub.generated";

type Tone = "good" | "busy" | "bad" | "quiet";

/** How a Teamspace is: in a word, and what that means for those who use it. */
export const STATES: Record<Space["state"], { word: string; tone: Tone; means: string }> = {
  invited: { word: "Invited", tone: "busy", means: "No cluster has joined yet. A join token lets one in." },
  certified: {
    word: "Certified",
    tone: "good",
    means: "Its cluster has joined, and its channel to the Hub stands.",
  },
  unreachable: {
    word: "Unreachable",
    tone: "bad",
    means:
      "Its cluster has joined and has no channel to the Hub now. What is open there goes on; what you decide here reaches it when it is back.",
  },
  suspended: {
    word: "Suspended",
    tone: "bad",
    means: "Nobody can consume or serve there until it is resumed.",
  },
  removed: { word: "Removed", tone: "quiet", means: "The Hub believes its cluster no more." },
};

/** Why `name` can be no name of a Teamspace, or null when it can: as the Hub decides (a DNS label, RFC 1123). */
export function nameProblem(name: string): string | null {
  if (name === "") return "Give it a name";
  if (name.length > 63) return "At most 63 characters";
  if (/[^a-z0-9-]/.test(name)) return "Lower-case letters, digits and hyphens only";
  if (name.startsWith("-") || name.endsWith("-")) return "A letter or digit first and last";
  return null;
}

/** How a release is to another one: by its numbers; null where one of both is unknown or no release. */
export function compareReleases(one: string | null, other: string | null): -1 | 0 | 1 | null {
  const [left, right] = [numbersOf(one), numbersOf(other)];
  if (left === null || right === null) return null;
  for (let at = 0; at < 3; at += 1) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference < 0 ? -1 : 1;
  }
  return 0;
}

function numbersOf(release: string | null): number[] | null {
  const found = /^v?(\d+)\.(\d+)(?:\.(\d+))?/.exec(release ?? "");
  return found === null ? null : found.slice(1).map((part) => Number(part));
}

/** A host and port as an address; IPv6 in brackets. */
export function addressOf(host: string, port: number | null): string {
  const shown = host.includes(":") ? `[${host}]` : host;
  return port === null ? shown : `${shown}:${String(port)}`;
}

/** How far a cluster is on its way in, in the order in which it happens. */
export interface Progress {
  joined: boolean;
  connected: boolean;
  addressed: boolean;
}

/**
 * What has happened since the join token was made. `before` is when a cluster had joined by then (null: none had): one that takes the place of another
 * has joined when that moment is a later one.
 */
export function progressOf(
  space: Pick<Space, "certified_at" | "connected" | "host">,
  before: string | null,
): Progress {
  const joined = space.certified_at !== null && space.certified_at !== before;
  return { joined, connected: joined && space.connected, addressed: joined && space.host !== null };
}
