import { lineDiff } from "./lineDiff";

/** Lines of the common text, from `start` up to `end`, and what stands in their place. */
interface Change {
  start: number;
  end: number;
  text: string;
}

/** Both people's changes of `base` in one text; null where they change the same lines, or lines side by side. */
export function merged(base: string, theirs: string, mine: string): string | null {
  const changes = [...changesOf(base, theirs), ...changesOf(base, mine)].sort(
    (a, b) => a.start - b.start || a.end - b.end,
  );
  const lines = base.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const parts: string[] = [];
  let at = 0;
  let last: Change | undefined;
  for (const change of changes) {
    if (last !== undefined && change.start <= last.end) {
      const isSame = change.start === last.start && change.end === last.end && change.text === last.text;
      if (!isSame) return null;
      continue;
    }
    parts.push(...lines.slice(at, change.start), change.text);
    at = change.end;
    last = change;
  }
  return [...parts, ...lines.slice(at)].join("");
}

function changesOf(base: string, other: string): Change[] {
  const { rows } = lineDiff(base, other);
  const changes: Change[] = [];
  let at = 0;
  let open: Change | undefined;
  rows.forEach((row, index) => {
    if (row.kind === "gap" || row.kind === "note") return;
    if (row.kind === "same") {
      at += 1;
      open = undefined;
      return;
    }
    if (open === undefined) changes.push((open = { start: at, end: at, text: "" }));
    if (row.kind === "removed") open.end = at += 1;
    else open.text += rows[index + 1]?.kind === "note" ? row.text : `${row.text}\n`;
  });
  return changes;
}
