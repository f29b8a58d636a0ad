import { Box, Group, Text, UnstyledButton } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import {
  flexRender,
  getCoreRowModel,
  getSortedRowModel,
  useReactTable,
  type ColumnDef,
  type SortingState,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState, type KeyboardEvent } from "react";

import classes from "./DataTable.module.css";

export type { ColumnDef, SortingState } from "@tanstack/react-table";

/**
 * A table that is as quick with 10,000 rows as with ten: rows outside of the window are not in the document. Columns take `size` as their share of the
 * width. Arrow keys move between rows, Enter opens one.
 */
export function DataTable<T>({
  rows,
  columns,
  label,
  rowId,
  onOpen,
  isOpen,
  height = "calc(100dvh - 260px)",
  rowHeight = 48,
  initialSort = [],
  onSort,
  onEnd,
}: {
  rows: T[];
  columns: ColumnDef<T>[];
  label: string;
  rowId: (row: T) => string;
  onOpen?: (row: T) => void;
  isOpen?: (row: T) => boolean;
  height?: string | number;
  rowHeight?: number;
  initialSort?: SortingState;
  /** Told how rows are sorted from now on, for the address. */
  onSort?: (sorting: SortingState) => void;
  /** Called when the last rows come into sight, for lists that are read page by page. */
  onEnd?: () => void;
}) {
  const [sorting, setSorting] = useState<SortingState>(initialSort);
  const table = useReactTable({
    data: rows,
    columns,
    state: { sorting },
    onSortingChange: (change) => {
      const next = typeof change === "function" ? change(sorting) : change;
      setSorting(next);
      onSort?.(next);
    },
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
    getRowId: rowId,
  });
  const scrolled = useRef<HTMLDivElement>(null);
  const found = table.getRowModel().rows;
  const virtual = useVirtualizer({
    count: found.length,
    getScrollElement: () => scrolled.current,
    estimateSize: () => rowHeight,
    overscan: 8,
    getItemKey: (index) => found[index]?.id ?? index,
  });
  const lastInSight = virtual.getVirtualItems().at(-1)?.index ?? -1;
  const isAtEnd = found.length > 0 && lastInSight >= found.length - 1;
  useEffect(() => {
    if (isAtEnd) onEnd?.();
  }, [isAtEnd, found.length, onEnd]);
  const widths = table
    .getVisibleLeafColumns()
    .map((column) => `minmax(0, ${String(column.getSize())}fr)`)
    .join(" ");
  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>, index: number) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    const row = found[index];
    if (event.target !== event.currentTarget) return;
    if (step !== undefined) {
      event.preventDefault();
      const next = Math.max(0, Math.min(found.length - 1, index + step));
      virtual.scrollToIndex(next);
      requestAnimationFrame(() =>
        scrolled.current?.querySelector<HTMLElement>(`[data-index="${String(next)}"]`)?.focus(),
      );
    } else if (event.key === "Enter" && row !== undefined) {
      event.preventDefault();
      onOpen?.(row.original);
    }
  };
  return (
    <Box role="table" aria-label={label} aria-rowcount={found.length + 1} className={classes.table}>
      <Box role="rowgroup">
        <Box role="row" className={classes.head} style={{ gridTemplateColumns: widths }}>
          {table.getFlatHeaders().map((header) => {
            const sorted = header.column.getIsSorted();
            const content = flexRender(header.column.columnDef.header, header.getContext());
            return (
              <Box
                key={header.id}
                role="columnheader"
                aria-sort={sorted === "asc" ? "ascending" : sorted === "desc" ? "descending" : "none"}
                className={classes.cell}
              >
                {header.column.getCanSort() ? (
                  <UnstyledButton onClick={header.column.getToggleSortingHandler()} className={classes.sort}>
                    <Group gap={4} wrap="nowrap">
                      <Text size="xs" fw={600} component="span">
                        {content}
                      </Text>
                      {sorted === "asc" && <IconArrowUp size={12} aria-hidden />}
                      {sorted === "desc" && <IconArrowDown size={12} aria-hidden />}
                    </Group>
                  </UnstyledButton>
                ) : (
                  <Text size="xs" fw={600} component="span">
                    {content}
                  </Text>
                )}
              </Box>
            );
          })}
        </Box>
      </Box>
      <Box ref={scrolled} role="rowgroup" className={classes.body} style={{ maxHeight: height }}>
        <Box role="presentation" style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map((item) => {
            const row = found[item.index];
            if (row === undefined) return null;
            return (
              <Box
                key={item.key}
                role="row"
                aria-rowindex={item.index + 2}
                data-index={item.index}
                data-open={isOpen?.(row.original) ?? undefined}
                data-clickable={onOpen !== undefined || undefined}
                tabIndex={0}
                className={classes.row}
                style={{
                  gridTemplateColumns: widths,
                  height: rowHeight,
                  transform: `translateY(${String(item.start)}px)`,
                }}
                onClick={() => onOpen?.(row.original)}
                onKeyDown={(event) => {
                  onKeyDown(event, item.index);
                }}
              >
                {row.getVisibleCells().map((cell) => (
                  <Box key={cell.id} role="cell" className={classes.cell}>
                    {flexRender(cell.column.columnDef.cell, cell.getContext())}
                  </Box>
                ))}
              </Box>
            );
          })}
        </Box>
      </Box>
    </Box>
  );
}
