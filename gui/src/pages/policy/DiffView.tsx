import { Box, Text } from "@mantine/core";

import classes from "./DiffView.module.css";
import { withHiddenShown } from "./editing";
import type { DiffRow } from "./lineDiff";

// Nobody reads more, and each line is a row in the document.
const MOST = 3000;
const MARKS = { added: "+", removed: "-", same: " " } as const;
const WORDS = { added: "added", removed: "removed", same: "" } as const;

/** A comparison, line by line: what was added is marked with +, what was removed with -. */
export function DiffView({
  rows,
  label,
  empty = "No difference.",
  height = 420,
}: {
  rows: readonly DiffRow[];
  label: string;
  empty?: string;
  height?: number | string;
}) {
  if (rows.length === 0)
    return (
      <Text size="sm" c="dimmed">
        {empty}
      </Text>
    );
  return (
    <Box className={classes.frame} mah={height} tabIndex={0} role="region" aria-label={label}>
      <table className={classes.table}>
        <tbody>
          {rows.slice(0, MOST).map((row, index) => (
            <Line key={index} row={row} />
          ))}
          {rows.length > MOST && (
            <Line
              row={{ kind: "gap", text: `${String(rows.length - MOST)} more lines are not shown here` }}
            />
          )}
        </tbody>
      </table>
    </Box>
  );
}

function Line({ row }: { row: DiffRow }) {
  if (row.kind === "gap" || row.kind === "note")
    return (
      <tr className={classes.gap}>
        <td className={classes.number} />
        <td className={classes.number} />
        <td className={classes.mark} />
        <td className={classes.text}>{withHiddenShown(row.text)}</td>
      </tr>
    );
  return (
    <tr className={classes[row.kind]}>
      <td className={classes.number}>{row.before}</td>
      <td className={classes.number}>{row.after}</td>
      <td className={classes.mark} {...(row.kind === "same" ? {} : { "aria-label": WORDS[row.kind] })}>
        {MARKS[row.kind]}
      </td>
      <td className={classes.text}>{withHiddenShown(row.text)}</td>
    </tr>
  );
}

/** How much a comparison changes: `3 lines added, 1 removed`. */
export function sizeInWords({ added, removed }: { added: number; removed: number }): string {
  if (added === 0 && removed === 0) return "no line changes";
  const lines = (many: number) => `${String(many)} ${many === 1 ? "line" : "lines"}`;
  if (removed === 0) return `${lines(added)} added`;
  if (added === 0) return `${lines(removed)} removed`;
  return `${lines(added)} added, ${lines(removed)} removed`;
}
