import { Button, Group, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconDownload, IconShieldCheck } from "@tabler/icons-react";
import { useEffect, useMemo } from "react";

import type { AuditEntry } from "../../api/hub.generated";
import { Nothing, PageHead, Shown, When } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useMay, useOrganization } from "../../session/session";
import { useEntries } from "./entries";
import { EntryDrawer } from "./EntryDrawer";
import { ExportDialog } from "./Export";
import { filterOf, queryOf } from "./filter";
import { Filters } from "./Filters";
import { Outcome } from "./Outcome";
import { VerifyDialog } from "./Verify";
import { kindOf, nameOf, wordsOf } from "./words";

// Of an entry that a link names, so many others are looked through by themselves.
const MOST_LOOKED_THROUGH = 5000;

const COLUMNS: ColumnDef<AuditEntry>[] = [
  {
    id: "at",
    header: "When",
    size: 140,
    enableSorting: false,
    cell: ({ row: { original: entry } }) => <When at={entry.at} />,
  },
  {
    id: "actor",
    header: "Who",
    size: 200,
    enableSorting: false,
    cell: ({ row: { original: entry } }) => <Named thing={entry.actor} />,
  },
  {
    id: "action",
    header: "What was done",
    size: 250,
    enableSorting: false,
    cell: ({ row: { original: entry } }) => (
      <Stack gap={0}>
        <Text size="sm" truncate>
          {wordsOf(entry.action)}
        </Text>
        <Text size="xs" c="dimmed" ff="monospace" truncate>
          {entry.action}
        </Text>
      </Stack>
    ),
  },
  {
    id: "target",
    header: "On what",
    size: 250,
    enableSorting: false,
    cell: ({ row: { original: entry } }) => <Named thing={entry.target} />,
  },
  {
    id: "outcome",
    header: "Outcome",
    size: 130,
    enableSorting: false,
    cell: ({ row: { original: entry } }) => <Outcome outcome={entry.outcome} />,
  },
];

/** Somebody or something in a line of the table: what it is called, and what it is. */
function Named({ thing }: { thing: Readonly<Record<string, unknown>> }) {
  const name = nameOf(thing);
  return (
    <Stack gap={0}>
      <Text size="sm" truncate title={name}>
        <bdi>{name}</bdi>
      </Text>
      <Text size="xs" c="dimmed" truncate>
        {kindOf(thing)}
      </Text>
    </Stack>
  );
}

/** What was done in the organization, by whom, and what was refused: the latest first. */
export function AuditPage() {
  const organization = useOrganization();
  const may = useMay()("audit.read");
  const [search, change] = useAddress();
  const [exporting, exports] = useDisclosure(false);
  const [verifying, verify] = useDisclosure(false);
  // The same object for the same filter, of whose identity the reading depends.
  const said = JSON.stringify(filterOf(search));
  const filter = useMemo(() => filterOf(JSON.parse(said) as Record<string, string>), [said]);
  const live = search.live !== "off";
  const { entries, more, hasMore, isReadingMore, query } = useEntries(filter, live);

  const wanted = search.entry;
  const opened = entries.find((entry) => String(entry.number) === wanted);
  const oldest = entries.at(-1)?.number ?? 0;
  const isSearched =
    wanted !== undefined &&
    opened === undefined &&
    hasMore &&
    Number(wanted) < oldest &&
    entries.length < MOST_LOOKED_THROUGH;
  useEffect(() => {
    if (isSearched) more();
  }, [isSearched, more]);

  const show = (entry: string) => {
    change({ entry }, wanted === undefined);
  };
  return (
    <>
      <PageHead
        title="Audit"
        about={
          <>
            Who did what in <bdi>{organization.name}</bdi>, and what was refused. It is only ever added to,
            and each entry is sealed to the one before.
          </>
        }
      >
        {may && (
          <>
            <Button
              variant="default"
              leftSection={<IconShieldCheck size={16} aria-hidden />}
              onClick={verify.open}
            >
              Verify
            </Button>
            <Button
              variant="default"
              leftSection={<IconDownload size={16} aria-hidden />}
              onClick={exports.open}
            >
              Export
            </Button>
          </>
        )}
      </PageHead>
      <Stack gap="md">
        {may && (
          <Filters
            filter={filter}
            live={live}
            onChange={(to) => {
              change({ ...to, entry: "" });
            }}
            onLive={(on) => {
              change({ live: on ? "" : "off" });
            }}
          />
        )}
        <Shown query={query} rows={10}>
          {(found) =>
            found.length === 0 ? (
              Object.keys(queryOf(filter)).length > 0 ? (
                <Nothing title="Nothing fits">No entry is what the filters say.</Nothing>
              ) : (
                <Nothing title="No entries yet">
                  What people and programs do here is shown, as it happens.
                </Nothing>
              )
            ) : (
              <>
                <DataTable
                  rows={found}
                  columns={COLUMNS}
                  label="Audit entries, the latest first"
                  rowId={(entry) => String(entry.number)}
                  rowHeight={52}
                  height="calc(100dvh - 380px)"
                  onOpen={(entry) => {
                    show(String(entry.number));
                  }}
                  isOpen={(entry) => String(entry.number) === wanted}
                  onEnd={more}
                />
                <Group justify="space-between">
                  <Text size="xs" c="dimmed" role="status">
                    {found.length.toLocaleString("en")} read
                    {isReadingMore
                      ? ", reading older ones"
                      : hasMore
                        ? "; scroll for older ones"
                        : ", that is all"}
                  </Text>
                </Group>
              </>
            )
          }
        </Shown>
      </Stack>
      <EntryDrawer
        number={wanted}
        entry={opened}
        isSearched={isSearched}
        onClose={() => {
          change({ entry: "" });
        }}
        onFilter={(to) => {
          change({ ...to, entry: "" }, true);
        }}
      />
      <ExportDialog opened={exporting} onClose={exports.close} />
      <VerifyDialog
        opened={verifying}
        onClose={verify.close}
        onShow={(number) => {
          verify.close();
          show(String(number));
        }}
      />
    </>
  );
}
