const NEWLINE = 10;

/** What has come of an export: whole lines alone. */
export interface Exported {
  parts: Uint8Array<ArrayBuffer>[];
  bytes: number;
  entries: number;
  /** The number of the last entry; 0 where there is none. */
  last: number;
  /** Whether there is more than is kept here. */
  isFull: boolean;
  /** Why it ended before its end. */
  broken: unknown;
}

/**
 * Read an export up to `most` bytes, told as it grows. What is cut off, by us or on the way, ends behind a whole line, so that one can go on behind it.
 */
export async function exported(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  most: number,
  told: (entries: number, bytes: number) => void,
): Promise<Exported> {
  const found: Exported = { parts: [], bytes: 0, entries: 0, last: 0, isFull: false, broken: null };
  const reader = stream.getReader();
  let rest = new Uint8Array();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const joined = new Uint8Array(rest.length + value.length);
      joined.set(rest);
      joined.set(value, rest.length);
      const end = joined.lastIndexOf(NEWLINE) + 1;
      if (found.bytes + end > most) {
        found.isFull = true;
        await reader.cancel();
        return found;
      }
      rest = joined.slice(end);
      if (end > 0) take(found, joined.slice(0, end));
      told(found.entries, found.bytes);
    }
  } catch (error) {
    found.broken = error;
  }
  return found;
}

function take(found: Exported, whole: Uint8Array<ArrayBuffer>): void {
  found.parts.push(whole);
  found.bytes += whole.length;
  for (const line of new TextDecoder().decode(whole).split("\n")) {
    // The last line is a checkpoint, which has no number.
    const number = line === "" ? undefined : (JSON.parse(line) as { number?: number }).number;
    if (number === undefined) continue;
    found.entries += 1;
    found.last = number;
  }
}

/** A number of bytes as people say it. */
export function sizeOf(bytes: number): string {
  if (bytes < 1000) return `${String(bytes)} bytes`;
  const [divisor, unit] = bytes < 1_000_000 ? [1000, "KB"] : [1_000_000, "MB"];
  return `${(bytes / divisor).toFixed(1)} ${unit}`;
}

/** Have the browser keep `parts` as a file. */
export function save(parts: Uint8Array<ArrayBuffer>[], name: string): void {
  const address = URL.createObjectURL(new Blob(parts, { type: "application/x-ndjson" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // The browser has begun by then, and reads on by itself.
  window.setTimeout(() => {
    URL.revokeObjectURL(address);
  }, 60_000);
}
