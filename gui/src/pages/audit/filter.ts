/** What entries have to be, as the Hub takes it; empty for whatever they are. */
export interface Filter {
  action: string;
  actor: string;
  target: string;
  outcome: string;
  since: string;
  until: string;
}

const FIELDS = ["action", "actor", "target", "outcome", "since", "until"] as const;
const LONGEST = 64;

/** The filter that an address says; what no filter can be is left out. */
export function filterOf(search: Partial<Record<string, string>>): Filter {
  const text = (name: string) => (search[name] ?? "").trim().slice(0, LONGEST);
  const moment = (name: string) => (Number.isNaN(Date.parse(text(name))) ? "" : text(name));
  return {
    action: text("action"),
    actor: text("actor"),
    target: text("target"),
    outcome: text("outcome"),
    since: moment("since"),
    until: moment("until"),
  };
}

/** The same for a request: only what is said. */
export function queryOf(filter: Filter): Partial<Filter> {
  return Object.fromEntries(FIELDS.filter((name) => filter[name] !== "").map((name) => [name, filter[name]]));
}

/** An address without any filter. */
export const NOTHING: Filter = { action: "", actor: "", target: "", outcome: "", since: "", until: "" };

/** A moment (RFC 3339) as a field for local time takes it; empty for none. */
export function localOf(moment: string): string {
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return "";
  const two = (number: number) => String(number).padStart(2, "0");
  const day = `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** The moment (RFC 3339, in UTC, so that it is the same for whoever opens the link) of a field for local time; empty for none. */
export function momentOf(local: string): string {
  const at = new Date(local);
  return Number.isNaN(at.getTime()) ? "" : at.toISOString().replace(".000Z", "Z");
}
