import { Text } from "@mantine/core";
import { useMemo } from "react";

import { State } from "../../parts";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import type { Laptop } from "../../space/laptops";
import type { Picture } from "./picture";
import { relationsOf, type Relation } from "./relations";

/** The same as the graph, as a list. */
export function Relations({
  picture,
  nameOf,
  opened,
  onOpen,
}: {
  picture: Picture;
  nameOf: (laptop: Laptop) => string;
  opened: string | undefined;
  onOpen: (node: string) => void;
}) {
  const rows = useMemo(() => relationsOf(picture, nameOf), [picture, nameOf]);
  return (
    <DataTable
      rows={rows}
      columns={COLUMNS}
      label="Who consumes and serves what"
      rowId={(one) => one.id}
      height="calc(100dvh - 330px)"
      onOpen={(one) => {
        onOpen(one.opens);
      }}
      isOpen={(one) => one.opens === opened}
    />
  );
}

const COLUMNS: ColumnDef<Relation>[] = [
  {
    id: "who",
    header: "Laptop",
    size: 180,
    accessorFn: (one) => one.who,
    cell: ({ row: { original: one } }) =>
      one.who === "" ? (
        <Text span c="dimmed" size="sm">
          nobody
        </Text>
      ) : (
        <bdi title={one.who}>{one.who}</bdi>
      ),
  },
  { id: "does", header: "Does", size: 100, accessorFn: (one) => one.does },
  {
    id: "service",
    header: "Service",
    size: 345,
    accessorFn: (one) => one.service,
    cell: ({ row: { original: one } }) => <bdi title={one.service}>{one.service}</bdi>,
  },
  {
    id: "condition",
    header: "For",
    size: 225,
    accessorFn: (one) => one.condition,
    cell: ({ row: { original: one } }) => <bdi title={one.condition}>{one.condition}</bdi>,
  },
  {
    id: "state",
    header: "State",
    size: 200,
    accessorFn: (one) => `${String(["bad", "busy", "good"].indexOf(one.tone))} ${one.state}`,
    cell: ({ row: { original: one } }) => <State tone={one.tone}>{one.state}</State>,
  },
];
