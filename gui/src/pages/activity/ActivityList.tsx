import { Button, Group, Select, Stack, Text } from "@mantine/core";
import { IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react";
import { useMemo, useState } from "react";

import { Nothing, Person, Shown, State, When } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { SearchField } from "../../parts/SearchField";
import type { Happened } from "../../space/happened";
import { ServiceLink } from "../../space/links";
import { useNames } from "../../space/names";
import { useActivity } from "../../space/source";
import { refOf } from "../../space/services";
import { moreOf, NAMES, newestFirst, personOf, TONES, type Kind } from "./activities";

/** What happened last, newest first, as it happens. */
export function ActivityList() {
  const activity = useActivity();
  return <Shown query={activity}>{(told) => <Listed now={told.items} />}</Shown>;
}

function Listed({ now }: { now: Happened[] }) {
  const [address, change] = useAddress();
  const [paused, setPaused] = useState<Happened[] | null>(null);
  const names = useNames();
  const { q = "", kind = "", person = "", service = "" } = address;
  const shown = paused ?? now;
  const nameOf = useMemo(() => (user: string) => names(user) ?? (user === "" ? "" : "Somebody"), [names]);
  const found = useMemo(
    () => newestFirst(shown, { text: q, kind, person, service }, nameOf),
    [shown, q, kind, person, service, nameOf],
  );
  const columns = useMemo(() => columnsFor(nameOf), [nameOf]);
  const people = useMemo(
    () =>
      [...new Set([...shown.map(personOf), person])]
        .filter((user) => user !== "")
        .map((user) => ({ value: user, label: names(user) ?? `Somebody (${user})` }))
        .sort((a, b) => a.label.localeCompare(b.label)),
    [shown, names, person],
  );
  const services = useMemo(
    () =>
      [...new Set([...shown.map((one) => (one.service === null ? "" : refOf(one.service))), service])]
        .filter((one) => one !== "")
        .sort(),
    [shown, service],
  );
  const waiting = paused === null ? 0 : newer(now, paused);
  if (now.length === 0)
    return (
      <Nothing title="Nothing has happened yet">
        When somebody connects, consumes or serves, it is here at once.
      </Nothing>
    );
  return (
    <Stack gap="md">
      <Group gap="sm">
        <SearchField
          label="Filter"
          value={q}
          onChange={(text) => {
            change({ q: text });
          }}
        />
        <Select
          aria-label="Kind"
          placeholder="Every kind"
          clearable
          w={150}
          data={KINDS}
          value={kind === "" ? null : kind}
          onChange={(value) => {
            change({ kind: value ?? undefined });
          }}
        />
        <Select
          aria-label="Person"
          placeholder="Everybody"
          clearable
          searchable
          w={150}
          data={people}
          value={person === "" ? null : person}
          onChange={(value) => {
            change({ person: value ?? undefined });
          }}
        />
        <Select
          aria-label="Service"
          placeholder="Every service"
          clearable
          searchable
          w={170}
          limit={200}
          data={services}
          value={service === "" ? null : service}
          onChange={(value) => {
            change({ service: value ?? undefined });
          }}
        />
        <Button
          variant="default"
          leftSection={
            paused === null ? (
              <IconPlayerPause size={16} aria-hidden />
            ) : (
              <IconPlayerPlay size={16} aria-hidden />
            )
          }
          onClick={() => {
            setPaused(paused === null ? now : null);
          }}
        >
          {paused === null ? "Pause" : "Go on"}
        </Button>
        <Text size="sm" c="dimmed" role="status">
          {paused === null
            ? found.length === shown.length
              ? `${String(found.length)} events`
              : `${String(found.length)} of ${String(shown.length)} events`
            : `Paused; ${String(waiting)} newer`}
        </Text>
      </Group>
      {found.length === 0 ? (
        <Nothing title="Nothing is like that">Change what you filter by, or clear it.</Nothing>
      ) : (
        <DataTable
          rows={found}
          columns={columns}
          label="What happened"
          rowId={(one) => one.id}
          rowHeight={44}
          height="calc(100dvh - 330px)"
        />
      )}
    </Stack>
  );
}

const KINDS = (Object.keys(NAMES) as Kind[]).map((value) => ({ value, label: NAMES[value] }));

function newer(now: readonly Happened[], before: readonly Happened[]): number {
  const known = new Set(before.map((one) => one.id));
  return now.filter((one) => !known.has(one.id)).length;
}

function columnsFor(nameOf: (user: string) => string): ColumnDef<Happened>[] {
  return [
    {
      id: "when",
      header: "When",
      size: 150,
      enableSorting: false,
      cell: ({ row: { original: one } }) => <When at={one.at} />,
    },
    {
      id: "person",
      header: "Who",
      size: 125,
      enableSorting: false,
      cell: ({ row: { original: one } }) =>
        personOf(one) === "" ? (
          <Text size="sm">the Teamspace</Text>
        ) : (
          <Person name={nameOf(personOf(one))} id={personOf(one)} />
        ),
    },
    {
      id: "kind",
      header: "What",
      size: 175,
      enableSorting: false,
      cell: ({ row: { original: one } }) => <State tone={TONES[one.kind]}>{NAMES[one.kind]}</State>,
    },
    {
      id: "service",
      header: "Service",
      size: 345,
      enableSorting: false,
      cell: ({ row: { original: one } }) =>
        one.service === null ? null : <ServiceLink service={refOf(one.service)} />,
    },
    {
      id: "more",
      header: "Details",
      size: 285,
      enableSorting: false,
      cell: ({ row: { original: one } }) => (
        <Text size="sm" truncate title={moreOf(one)}>
          <bdi>{moreOf(one)}</bdi>
        </Text>
      ),
    },
  ];
}
