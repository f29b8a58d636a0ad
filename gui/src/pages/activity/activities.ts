import type { Happened } from "../../space/happened";
import { refOf } from "../../space/services";

export type Kind = Happened["kind"];

/** The kinds as names in a filter. */
export const NAMES: Record<Kind, string> = {
  joined: "Connected",
  left: "Left",
  away: "Went away",
  returned: "Came back",
  consumed: "Consumed",
  released: "No longer consumed",
  refused: "Refused",
  served: "Served",
  unserved: "No longer served",
  "taken-over": "Taken over",
  terminated: "Terminated",
  expired: "Expired",
  contested: "Contested",
  requests: "Requests counted",
  lost: "Events lost",
  other: "Other",
};

export type Tone = "good" | "busy" | "bad" | "quiet";

/** How much a kind matters. */
export const TONES: Record<Kind, Tone> = {
  joined: "good",
  left: "quiet",
  away: "busy",
  returned: "good",
  consumed: "good",
  released: "quiet",
  refused: "bad",
  served: "good",
  unserved: "quiet",
  "taken-over": "busy",
  terminated: "busy",
  expired: "quiet",
  contested: "bad",
  requests: "quiet",
  lost: "bad",
  other: "quiet",
};

/** What is told besides the kind: details, how many requests, what a laptop that left had consumed. */
export function moreOf(one: Happened): string {
  const parts: string[] = [];
  if (one.kind === "requests" && one.count !== null)
    parts.push(one.count === 1 ? "1 request" : `${String(one.count)} requests`);
  if (one.detail !== "") parts.push(one.detail);
  if (one.consumed.length > 0) {
    const few = one.consumed.slice(0, 3).map(refOf).join(", ");
    const more = one.consumed.length - 3;
    parts.push(`consumed ${few}${more > 0 ? ` and ${String(more)} more` : ""}`);
  }
  return parts.join("; ");
}

export interface ActivityFilter {
  text: string;
  kind: string;
  person: string;
  service: string;
}

/** Whom it is about: who did it, else whose variant it is. */
export function personOf(one: Happened): string {
  return one.user === "" ? one.owner : one.user;
}

/** What fits the filter, newest first. Of those of the same moment the one that was told last comes first. */
export function newestFirst(
  activities: readonly Happened[],
  filter: ActivityFilter,
  nameOf: (user: string) => string,
): Happened[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (one: Happened) => {
    if (filter.kind !== "" && one.kind !== filter.kind) return false;
    if (filter.person !== "" && one.user !== filter.person && one.owner !== filter.person) return false;
    const service = one.service === null ? "" : refOf(one.service);
    if (filter.service !== "" && service !== filter.service) return false;
    if (words.length === 0) return true;
    const content = [nameOf(personOf(one)), NAMES[one.kind], service, moreOf(one)].join(" ").toLowerCase();
    return words.every((word) => content.includes(word));
  };
  return activities
    .map((one, number) => ({ one, number }))
    .filter(({ one }) => fits(one))
    .sort((a, b) => b.one.at - a.one.at || b.number - a.number)
    .map(({ one }) => one);
}
