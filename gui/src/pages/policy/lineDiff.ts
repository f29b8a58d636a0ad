/** A line of a comparison: one of the texts, or what is left out between lines. Numbers count from 1. */
export type DiffRow =
  | { kind: "same" | "added" | "removed"; text: string; before: number | null; after: number | null }
  | { kind: "gap"; text: string }
  | { kind: "note"; text: string };

/** What differs between two texts, line by line. */
export interface LineDiff {
  rows: DiffRow[];
  added: number;
  removed: number;
  /** Whether it is the shortest way from one to the other; texts that differ too much are shown as one replaced part. */
  shortest: boolean;
}

// Steps of the search, a fraction of a second: documents that differ more are not read side by side anyway.
const MOST_STEPS = 4_000_000;

/** Compare two texts by lines (Myers 1986, in linear memory and bounded time: what takes longer is told as replaced). */
export function lineDiff(before: string, after: string, mostSteps: number = MOST_STEPS): LineDiff {
  const old = linesOf(before);
  const now = linesOf(after);
  const search = new Search(numbered(old, now), mostSteps);
  search.compare(0, old.length, 0, now.length);
  return { ...walk(old, now, search), shortest: search.steps >= 0 };
}

// With their ends: a last line without one is another line.
function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

interface Sides {
  old: Int32Array;
  now: Int32Array;
}

/** Each text as numbers, equal lines as equal ones. */
function numbered(old: string[], now: string[]): Sides {
  const known = new Map<string, number>();
  const numbers = (lines: string[]) =>
    Int32Array.from(lines, (line) => {
      const number = known.get(line) ?? known.size;
      known.set(line, number);
      return number;
    });
  return { old: numbers(old), now: numbers(now) };
}

/** Finds which lines are not on both sides. */
class Search {
  readonly removed: Uint8Array;
  readonly added: Uint8Array;
  steps: number;
  private readonly old: Int32Array;
  private readonly now: Int32Array;
  private readonly forwards: Int32Array;
  private readonly backwards: Int32Array;
  private readonly zero: number;

  constructor({ old, now }: Sides, steps: number) {
    this.old = old;
    this.now = now;
    this.steps = steps;
    this.removed = new Uint8Array(old.length);
    this.added = new Uint8Array(now.length);
    this.zero = old.length + now.length + 2;
    this.forwards = new Int32Array(2 * this.zero + 1);
    this.backwards = new Int32Array(2 * this.zero + 1);
  }

  /** Mark what differs between lines `a` to `b` of the old text and `c` to `d` of the new one. */
  compare(a: number, b: number, c: number, d: number): void {
    while (a < b && c < d && this.old[a] === this.now[c]) {
      a += 1;
      c += 1;
    }
    while (a < b && c < d && this.old[b - 1] === this.now[d - 1]) {
      b -= 1;
      d -= 1;
    }
    const middle = a < b && c < d ? this.middle(a, b, c, d) : null;
    if (middle === null) {
      this.removed.fill(1, a, b);
      this.added.fill(1, c, d);
      return;
    }
    this.compare(a, a + middle.x, c, c + middle.y);
    this.compare(a + middle.u, b, c + middle.v, d);
  }

  /** The run of equal lines in the middle of a shortest way, from (x, y) to (u, v); null where looking for it took too long. */
  private middle(a: number, b: number, c: number, d: number) {
    const { old, now, zero } = this;
    const height = b - a;
    const width = d - c;
    const delta = height - width;
    this.forwards[zero + 1] = 0;
    this.backwards[zero + 1] = 0;
    for (let edits = 0; edits <= Math.ceil((height + width) / 2); edits += 1) {
      for (const isForward of [true, false]) {
        const reached = isForward ? this.forwards : this.backwards;
        const met = isForward ? this.backwards : this.forwards;
        const near = isForward ? edits - 1 : edits;
        const lowest = -(edits - 2 * Math.max(0, edits - width));
        const highest = edits - 2 * Math.max(0, edits - height);
        for (let k = lowest; k <= highest; k += 2) {
          const less = reached[zero + k - 1] ?? 0;
          const more = reached[zero + k + 1] ?? 0;
          let u = k === -edits || (k !== edits && less < more) ? more : less + 1;
          let v = u - k;
          const x = u;
          const y = v;
          while (
            u < height &&
            v < width &&
            (isForward ? old[a + u] === now[c + v] : old[b - 1 - u] === now[d - 1 - v])
          ) {
            u += 1;
            v += 1;
          }
          this.steps -= 1 + u - x;
          if (this.steps < 0) return null;
          reached[zero + k] = u;
          const other = delta - k;
          const canMeet = (delta % 2 !== 0) === isForward && other >= -near && other <= near;
          if (canMeet && u + (met[zero + other] ?? 0) >= height)
            return isForward ? { x, y, u, v } : { x: height - u, y: width - v, u: height - x, v: width - y };
        }
      }
    }
    return null;
  }
}

function walk(old: string[], now: string[], found: Search): Omit<LineDiff, "shortest"> {
  const rows: DiffRow[] = [];
  const counts = { added: 0, removed: 0 };
  const put = (
    kind: "same" | "added" | "removed",
    line: string,
    before: number | null,
    after: number | null,
  ) => {
    const isEnded = line.endsWith("\n");
    rows.push({ kind, text: isEnded ? line.slice(0, -1) : line, before, after });
    if (!isEnded) rows.push({ kind: "note", text: "No line break at the end" });
    if (kind !== "same") counts[kind] += 1;
  };
  let before = 0;
  let after = 0;
  while (before < old.length || after < now.length) {
    if (before < old.length && found.removed[before] === 1) {
      put("removed", old[before] ?? "", before + 1, null);
      before += 1;
    } else if (after < now.length && found.added[after] === 1) {
      put("added", now[after] ?? "", null, after + 1);
      after += 1;
    } else {
      put("same", now[after] ?? "", before + 1, after + 1);
      before += 1;
      after += 1;
    }
  }
  return { rows, ...counts };
}

/** The rows with only so many equal lines around each change; what is left out is counted. */
export function withContext(rows: readonly DiffRow[], context = 3): DiffRow[] {
  const isNear = new Uint8Array(rows.length);
  rows.forEach((row, at) => {
    if (row.kind === "added" || row.kind === "removed")
      isNear.fill(1, Math.max(0, at - context), Math.min(rows.length, at + context + 1));
  });
  const shown: DiffRow[] = [];
  let left = 0;
  const close = () => {
    if (left > 0)
      shown.push({ kind: "gap", text: left === 1 ? "1 equal line" : `${String(left)} equal lines` });
    left = 0;
  };
  rows.forEach((row, at) => {
    if (isNear[at] === 1) {
      close();
      shown.push(row);
    } else left += 1;
  });
  close();
  return shown;
}
