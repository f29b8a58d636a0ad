import { useMemo } from "react";

import { DiffView } from "./DiffView";
import type { DiffRow } from "./lineDiff";

/** A document to be read, with line numbers. */
export function TextView({ text }: { text: string }) {
  const rows = useMemo(() => {
    const lines = text.split("\n");
    if (lines.at(-1) === "") lines.pop();
    return lines.map((line, index): DiffRow => ({
      kind: "same",
      text: line,
      before: null,
      after: index + 1,
    }));
  }, [text]);
  return (
    <DiffView rows={rows} label="The document" empty="The document is empty." height="calc(100dvh - 230px)" />
  );
}
