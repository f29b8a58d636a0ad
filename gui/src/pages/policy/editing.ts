/** A part of a text, by offsets. */
export interface Span {
  start: number;
  end: number;
}

/** What a key does to the text: `text` in place of what is between `from` and `to`, and what is selected then. */
export interface Edit {
  from: number;
  to: number;
  text: string;
  selected: Span;
}

const STEP = "  ";
// Of what stands at a place as much as belongs together: a text, a name, a test; else one character.
const WORD = /^(?:"(?:[^"\\\n]|\\.)*"?|[\p{L}\p{N}_]+|\/\/[^\n]*|@[\p{L}\p{N}_]+|\S)/u;

/** What stands at that line and column, as the Hub counts them: both from 1, columns in code points. */
export function spanAt(text: string, line: number, column: number): Span {
  let start = 0;
  for (let number = 1; number < line; number += 1) {
    const end = text.indexOf("\n", start);
    if (end < 0) break;
    start = end + 1;
  }
  for (let number = 1; number < column; number += 1) {
    const code = text.codePointAt(start);
    if (code === undefined || code === 10) break;
    start += code > 0xffff ? 2 : 1;
  }
  const found = WORD.exec(text.slice(start, start + 1000));
  return { start, end: start + (found?.[0].length ?? 0) };
}

/** Two spaces at the cursor, or before each line that is selected; `outwards` takes them away. */
export function indent(text: string, { start, end }: Span, outwards: boolean): Edit {
  const from = text.lastIndexOf("\n", start - 1) + 1;
  const isOfLines = text.slice(start, end).includes("\n");
  if (!outwards && !isOfLines) {
    const at = start + STEP.length;
    return { from: start, to: end, text: STEP, selected: { start: at, end: at } };
  }
  // The line below is not selected, where the selection ends at its beginning.
  const last = isOfLines && text[end - 1] === "\n" ? end - 1 : end;
  const rest = text.indexOf("\n", last);
  const to = rest < 0 ? text.length : rest;
  const lines = text.slice(from, to).split("\n");
  const changed = lines.map((line) => {
    if (outwards) return line.replace(/^(?: {1,2}|\t)/, "");
    return line === "" ? line : STEP + line;
  });
  const result = changed.join("\n");
  if (isOfLines) return { from, to, text: result, selected: { start: from, end: from + result.length } };
  const moved = (changed[0] ?? "").length - (lines[0] ?? "").length;
  return {
    from,
    to,
    text: result,
    selected: { start: Math.max(from, start + moved), end: Math.max(from, end + moved) },
  };
}

/** A new line that begins where the one before it does. */
export function newLine(text: string, { start, end }: Span): Edit {
  const from = text.lastIndexOf("\n", start - 1) + 1;
  const before = /^[ \t]*/.exec(text.slice(from, start))?.[0] ?? "";
  const at = start + 1 + before.length;
  return { from: start, to: end, text: `\n${before}`, selected: { start: at, end: at } };
}

// Marks that turn the direction of text around, and those that nobody sees: they make a policy read otherwise than it is.
const HIDDEN = /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

/** A text with its hidden characters named, for where it is read and not edited. */
export function withHiddenShown(text: string): string {
  return text.replace(HIDDEN, nameOf);
}

/** Where characters are that nobody sees, at most so many of them. */
export function hiddenIn(text: string, most = 20): { line: number; column: number; name: string }[] {
  const found: { line: number; column: number; name: string }[] = [];
  for (const match of text.matchAll(HIDDEN)) {
    if (found.length >= most) break;
    const before = text.slice(0, match.index);
    const column = Array.from(before.slice(before.lastIndexOf("\n") + 1)).length + 1;
    found.push({ line: before.split("\n").length, column, name: nameOf(match[0]) });
  }
  return found;
}

function nameOf(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}
