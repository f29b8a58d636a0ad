import type { Query, QueryClient, QueryKey } from "@tanstack/react-query";

/** After each reading of something it is left alone for so long, and for as long as the reading took: what changes all the time is shown, and costs no more than half of the time. */
const LEAST_REST_MS = 400;
const MOST_REST_MS = 10_000;
// A reading that takes longer may never end: where the network has changed, for example.
const HUNG_MS = 30_000;

interface Reading {
  /** When it began; undefined between readings. */
  begun: number | undefined;
  rest: number | undefined;
  /** Something has changed since it began. */
  owed: boolean;
}

/**
 * A function that has everything read anew whose key begins with what it is given, until `signal`.
 *
 * What is being read just now may be from before the change, so it is read again afterwards, and not broken off: a reading that takes longer than it takes
 * until the next change would never end.
 */
export function readingAnew(client: QueryClient, signal: AbortSignal): (key: QueryKey) => void {
  const cache = client.getQueryCache();
  const readings = new Map<string, Reading>();

  const readingOf = (query: Query): Reading => {
    const known = readings.get(query.queryHash);
    if (known !== undefined) return known;
    // It may have begun before anybody listened.
    const begun = query.state.fetchStatus === "fetching" ? Date.now() : undefined;
    const made = { begun, rest: undefined, owed: false };
    readings.set(query.queryHash, made);
    return made;
  };
  const read = (query: Query) => {
    void client.invalidateQueries({ queryKey: query.queryKey, exact: true });
  };
  const ended = (query: Query, reading: Reading, begun: number) => {
    reading.begun = undefined;
    window.clearTimeout(reading.rest);
    const rest = () => {
      reading.rest = undefined;
      if (!reading.owed) return;
      reading.owed = false;
      read(query);
    };
    reading.rest = window.setTimeout(
      rest,
      Math.min(MOST_REST_MS, Math.max(LEAST_REST_MS, Date.now() - begun)),
    );
  };
  const stop = cache.subscribe(({ query, type }) => {
    if (type === "removed") {
      window.clearTimeout(readings.get(query.queryHash)?.rest);
      readings.delete(query.queryHash);
    }
    if (type !== "updated") return;
    const reading = readingOf(query);
    if (query.state.fetchStatus === "fetching") reading.begun ??= Date.now();
    else if (reading.begun !== undefined) ended(query, reading, reading.begun);
  });
  signal.addEventListener("abort", () => {
    stop();
    for (const { rest } of readings.values()) window.clearTimeout(rest);
  });

  return (key) => {
    if (signal.aborted) return;
    for (const query of cache.findAll({ queryKey: key })) {
      const reading = readingOf(query);
      if (reading.begun !== undefined && Date.now() - reading.begun > HUNG_MS) {
        reading.begun = Date.now();
        read(query);
      } else if (reading.begun === undefined && reading.rest === undefined) read(query);
      else reading.owed = true;
    }
  };
}
