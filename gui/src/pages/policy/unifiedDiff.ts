import type { DiffRow } from "./lineDiff";

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/;

/** The rows of a unified diff, as the Hub tells one; a text that is none is told as it is. */
export function unifiedRows(diff: string): DiffRow[] {
  const lines = diff.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const first = lines.findIndex((line) => HUNK.test(line));
  if (first < 0) return lines.map((text) => ({ kind: "note", text }));
  const rows: DiffRow[] = [];
  let before = 0;
  let after = 0;
  // What stands above says which versions are compared.
  for (const line of lines.slice(first)) {
    const text = line.slice(1);
    const hunk = HUNK.exec(line);
    if (hunk !== null) {
      before = Number(hunk[1]);
      after = Number(hunk[2]);
      rows.push({ kind: "gap", text: `Line ${String(after)}` });
    } else if (line.startsWith("-")) rows.push({ kind: "removed", text, before: before++, after: null });
    else if (line.startsWith("+")) rows.push({ kind: "added", text, before: null, after: after++ });
    else if (line.startsWith("\\")) rows.push({ kind: "note", text: "No line break at the end" });
    else rows.push({ kind: "same", text, before: before++, after: after++ });
  }
  return rows;
}
