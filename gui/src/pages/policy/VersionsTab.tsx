import { Group, Stack, Text } from "@mantine/core";
import { useMemo } from "react";

import type { Policy, PolicyVersion } from "../../api/hub.generated";
import { Person, Shown, State, When } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useAuthor, useVersions } from "./policies";
import { VersionDrawer } from "./VersionDrawer";

/** All versions of the document; each can be read, compared with any other, and brought back. */
export function VersionsTab({ inForce }: { inForce: Policy | undefined }) {
  const versions = useVersions();
  const [address, change] = useAddress();
  const opened = numberIn(address.version);
  return (
    <>
      <Shown query={versions}>
        {(all) => (
          <Stack gap="sm">
            <Text size="sm" c="dimmed">
              {all.length === 1 ? "1 version" : `${String(all.length)} versions`}. Open one to read it, to
              compare it with another, or to bring it back.
            </Text>
            <Table
              all={all}
              inForce={inForce?.number}
              opened={opened}
              onOpen={(number) => {
                change({ version: String(number), from: "" }, true);
              }}
            />
            <VersionDrawer
              number={opened}
              from={numberIn(address.from)}
              all={all}
              inForce={inForce}
              onFrom={(number) => {
                change({ from: String(number) });
              }}
              onClose={() => {
                change({ version: "", from: "" });
              }}
            />
          </Stack>
        )}
      </Shown>
    </>
  );
}

function numberIn(text: string | undefined): number | undefined {
  return text !== undefined && /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
}

function Table({
  all,
  inForce,
  opened,
  onOpen,
}: {
  all: PolicyVersion[];
  inForce: number | undefined;
  opened: number | undefined;
  onOpen: (number: number) => void;
}) {
  const nameOf = useAuthor();
  const columns = useMemo<ColumnDef<PolicyVersion>[]>(
    () => [
      {
        accessorKey: "number",
        header: "Version",
        size: 16,
        cell: ({ row }) => (
          <Group gap={8} wrap="nowrap">
            <Text size="sm" fw={500}>
              {row.original.number}
            </Text>
            {row.original.number === inForce && <State tone="good">In force</State>}
          </Group>
        ),
      },
      {
        accessorKey: "created_at",
        header: "When",
        size: 16,
        cell: ({ row }) => <When at={row.original.created_at} />,
      },
      {
        id: "author",
        accessorFn: (row) => nameOf(row.author),
        header: "Author",
        size: 24,
        cell: ({ row }) => <Person id={row.original.author} name={nameOf(row.original.author)} />,
      },
      {
        accessorKey: "comment",
        header: "Comment",
        size: 44,
        cell: ({ row }) =>
          row.original.comment === "" ? (
            <Text size="sm" c="dimmed">
              none
            </Text>
          ) : (
            <bdi title={row.original.comment}>{row.original.comment}</bdi>
          ),
      },
    ],
    [inForce, nameOf],
  );
  return (
    <DataTable
      label="Versions of the policy"
      rows={all}
      columns={columns}
      rowId={(row) => String(row.number)}
      onOpen={(row) => {
        onOpen(row.number);
      }}
      isOpen={(row) => row.number === opened}
      height="calc(100dvh - 340px)"
    />
  );
}
