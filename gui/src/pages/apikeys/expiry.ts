const DAY = 86_400;

/** How long a new key may be good. */
export const EXPIRIES: readonly { value: string; label: string; seconds: number | null }[] = [
  { value: "day", label: "1 day", seconds: DAY },
  { value: "week", label: "7 days", seconds: 7 * DAY },
  { value: "month", label: "30 days", seconds: 30 * DAY },
  { value: "quarter", label: "90 days", seconds: 90 * DAY },
  { value: "year", label: "1 year", seconds: 365 * DAY },
  { value: "never", label: "Until it is revoked", seconds: null },
];

const SOON_MS = 14 * DAY * 1000;

/** How near the end of a key is at `now` (milliseconds of UNIX time). */
export function nearness(expiresAt: string | null, now: number): "never" | "later" | "soon" | "over" {
  if (expiresAt === null) return "never";
  const left = Date.parse(expiresAt) - now;
  return left <= 0 ? "over" : left <= SOON_MS ? "soon" : "later";
}
