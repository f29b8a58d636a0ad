import { Box, Group, Text, UnstyledButton } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import {
  flexRender,
  getCoreRowModel,
  getSortedRowModel,
  useReactTable,
  type ColumnDef,
  type Row,
  type SortingState,
} from "@tanstack/react-table";
import { useVirtualizer, type Virtualizer } from "@tanstack/react-virtual";
import {
  memo,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
  type FocusEvent,
  type KeyboardEvent,
  type MouseEvent,
  type ReactNode,
  type SyntheticEvent,
} from "react";

import classes from "./DataTable.module.css";

export type { ColumnDef, SortingState } from "@tanstack/react-table";

/**
 * A table that is as quick with 10,000 rows as with ten: rows outside of the window are not in the document. Columns take `size` as their share of the
 * width. Arrow keys move between rows, Enter opens one. One row alone is a stop of the Tab key, with what is in it: the others would have no end.
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
  const [current, setCurrent] = useState<string | undefined>(undefined);
  const inSight = virtual.getVirtualItems().flatMap(({ index }) => found[index]?.id ?? []);
  const stop = current !== undefined && inSight.includes(current) ? current : firstInSight(virtual, found);
  const lastInSight = virtual.getVirtualItems().at(-1)?.index ?? -1;
  const isAtEnd = found.length > 0 && lastInSight >= found.length - 1;
  useEffect(() => {
    if (isAtEnd) onEnd?.();
  }, [isAtEnd, found.length, onEnd]);
  // What is narrower than most of what its columns would like to have scrolls sideways.
  const least = Math.min(720, 0.8 * table.getTotalSize());
  const widths = table
    .getVisibleLeafColumns()
    .map((column) => `minmax(0, ${String(column.getSize())}fr)`)
    .join(" ");
  // One handler for all rows, so that a row that has not changed is not made anew while others scroll by.
  const rowOf = (event: SyntheticEvent) => {
    const at = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-index]") : null;
    const index = Number(at?.dataset.index ?? -1);
    return { at, index, row: found[index] };
  };
  // A row that is far away comes into the document some frames after it was scrolled to.
  const focusRow = (index: number, frames = 30) => {
    requestAnimationFrame(() => {
      const there = scrolled.current?.querySelector<HTMLElement>(`[data-index="${String(index)}"]`);
      if (there !== null && there !== undefined) there.focus();
      else if (frames > 0) focusRow(index, frames - 1);
    });
  };
  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    const { at, index, row } = rowOf(event);
    const step = STEPS[event.key];
    if (row === undefined || event.target !== at) return;
    if (step !== undefined) {
      event.preventDefault();
      const next = Math.max(0, Math.min(found.length - 1, index + step));
      virtual.scrollToIndex(next);
      focusRow(next);
    } else if (event.key === "Enter") {
      event.preventDefault();
      onOpen?.(row.original);
    }
  };
  const onClick = (event: MouseEvent<HTMLDivElement>) => {
    const { at, row } = rowOf(event);
    const pressed = event.target instanceof Element ? event.target.closest(CONTROLS) : null;
    // A link or a button in a row does its own thing.
    if (row === undefined || (pressed !== null && pressed !== at && at?.contains(pressed) === true)) return;
    onOpen?.(row.original);
  };
  const onFocus = (event: FocusEvent<HTMLDivElement>) => {
    const { row } = rowOf(event);
    if (row !== undefined) setCurrent(row.id);
  };
  return (
    <Box
      role="table"
      aria-label={label}
      aria-rowcount={found.length + 1}
      className={classes.table}
      __vars={{ "--least": `${String(least)}px` }}
    >
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
      <Box
        ref={scrolled}
        role="rowgroup"
        className={classes.body}
        style={{ maxHeight: height }}
        onClick={onClick}
        onKeyDown={onKeyDown}
        onFocus={onFocus}
      >
        <Box role="presentation" style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map((item) => {
            const row = found[item.index];
            if (row === undefined) return null;
            return (
              <TableRow
                key={item.key}
                row={row}
                columns={columns}
                index={item.index}
                start={item.start}
                widths={widths}
                height={rowHeight}
                isOpen={isOpen?.(row.original)}
                isStop={row.id === stop}
                isClickable={onOpen !== undefined}
              />
            );
          })}
        </Box>
      </Box>
    </Box>
  );
}

const STEPS: Partial<Record<string, number>> = {
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: 10,
  PageUp: -10,
  Home: -Infinity,
  End: Infinity,
};
const CONTROLS = "a[href], button, input, select, textarea";

/** The row that the Tab key comes to where none was chosen: the first that is seen. */
function firstInSight<T>(
  virtual: Virtualizer<HTMLDivElement, Element>,
  rows: readonly Row<T>[],
): string | undefined {
  const offset = virtual.scrollOffset ?? 0;
  const item = virtual.getVirtualItems().find(({ start }) => start >= offset);
  return rows[item?.index ?? 0]?.id;
}

interface TableRowProps<T> {
  row: Row<T>;
  /** What cells are made by: where these change, rows are made anew. */
  columns: ColumnDef<T>[];
  index: number;
  start: number;
  widths: string;
  height: number;
  isOpen: boolean | undefined;
  /** Whether the Tab key stops at it. */
  isStop: boolean;
  isClickable: boolean;
}

const TableRow = memo(function TableRow<T>({
  row,
  index,
  start,
  widths,
  height,
  isOpen,
  isStop,
  isClickable,
}: TableRowProps<T>) {
  const element = useRef<HTMLDivElement>(null);
  // Whenever cells may have been made anew.
  useLayoutEffect(() => {
    for (const control of element.current?.querySelectorAll<HTMLElement>(`${CONTROLS}, [tabindex]`) ?? [])
      if (!isStop && control.tabIndex >= 0) {
        control.tabIndex = -1;
        control.dataset.passed = "";
      } else if (isStop && control.dataset.passed !== undefined) {
        control.tabIndex = 0;
        delete control.dataset.passed;
      }
  });
  return (
    <div
      ref={element}
      role="row"
      aria-rowindex={index + 2}
      data-index={index}
      data-open={isOpen}
      data-clickable={isClickable || undefined}
      tabIndex={isStop ? 0 : -1}
      className={classes.row}
      style={{ gridTemplateColumns: widths, height, transform: `translateY(${String(start)}px)` }}
    >
      {row.getVisibleCells().map((cell) => (
        <div key={cell.id} role="cell" className={classes.cell}>
          {flexRender(cell.column.columnDef.cell, cell.getContext())}
        </div>
      ))}
    </div>
  );
}) as <T>(props: TableRowProps<T>) => ReactNode;
