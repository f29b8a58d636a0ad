import { Group, Select, Stack, Text } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";

import { agent } from "../../api/agent";
import type { ConsumedService } from "../../api/agent.generated";
import { refused, said, Shown, State } from "../../parts";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useNarrow } from "../../parts/narrow";
import { Section } from "../../parts/Section";
import { useAgent } from "../../session/agent";
import { refOf } from "../../space/services";
import { useCatalog } from "../../space/source";
import { CatalogLink } from "./CatalogLink";
import { useConsumed, useMachineChanged } from "./queries";
import { CONSUME_STATES, count } from "./words";

// Up to here they are all shown; more of them are scrolled through.
const FEW = 12;

/** What this machine reaches by its name. */
export function Consumed() {
  const query = useConsumed();
  return (
    <Section
      title="Consumed"
      about="Services that this machine reaches by their names."
      action={<CatalogLink>Change in the catalog</CatalogLink>}
    >
      <Shown query={query} rows={3}>
        {(view) => (
          <>
            <PrimaryNamespace selected={view.primary_namespace} />
            {view.consumed.length === 0 ? (
              <Text size="sm">
                {view.rules.length === 0
                  ? "Nothing yet. Choose services in the catalog, or write rules."
                  : `${count(view.rules.length, "rule")} ${view.rules.length === 1 ? "lets" : "let"} nothing in that is there now.`}
              </Text>
            ) : (
              <ConsumedTable consumed={view.consumed} />
            )}
          </>
        )}
      </Shown>
    </Section>
  );
}

/** Whose services answer to their bare names. */
function PrimaryNamespace({ selected }: { selected: string | null }) {
  const catalog = useCatalog();
  const { mayAct } = useAgent();
  const changed = useMachineChanged();
  const select = useMutation({
    mutationFn: agent.selectPrimaryNamespace,
    onError: refused,
    onSuccess: async ({ primary_namespace: now }) => {
      said(now === null ? "No namespace is primary" : `Services of ${now} answer to their bare names`);
      await changed();
    },
  });
  const found = new Set((catalog.data?.items ?? []).map((one) => one.ref.namespace));
  if (selected !== null) found.add(selected);
  const names = [...found].sort();
  return (
    <Group align="flex-end" gap="md">
      <Select
        label="Primary namespace"
        description="Its services answer to their bare names, too, such as http://orders/."
        placeholder="None"
        data={names}
        value={selected}
        clearable
        searchable={names.length > 8}
        nothingFoundMessage="There is no such namespace"
        disabled={!mayAct || select.isPending}
        onChange={(value) => {
          select.mutate(value);
        }}
        w={{ base: "100%", xs: 360 }}
      />
    </Group>
  );
}

function ConsumedTable({ consumed }: { consumed: ConsumedService[] }) {
  const narrow = useNarrow();
  const columns: ColumnDef<ConsumedService>[] = [
    {
      id: "service",
      header: "Service",
      accessorFn: (one) => refOf(one.service),
      size: 200,
      cell: ({ row }) => (
        <Stack gap={0} miw={0} title={refOf(row.original.service)}>
          <Text size="sm" fw={500} truncate>
            <bdi>{row.original.service.name}</bdi>
          </Text>
          <Text size="xs" truncate>
            <bdi>{row.original.service.namespace}</bdi>
          </Text>
        </Stack>
      ),
    },
    {
      id: "state",
      header: "State",
      accessorFn: (one) => CONSUME_STATES[one.state].word,
      size: 150,
      cell: ({ row }) => (
        <Stack gap={0}>
          <State tone={CONSUME_STATES[row.original.state].tone}>
            {CONSUME_STATES[row.original.state].word}
          </State>
          {row.original.reason !== null && (
            <Text size="xs" truncate title={row.original.reason}>
              <bdi>{row.original.reason}</bdi>
            </Text>
          )}
        </Stack>
      ),
    },
    {
      id: "name",
      header: "Name",
      accessorFn: (one) => one.names[0] ?? "",
      size: 200,
      cell: ({ row }) => (
        <Text size="sm" ff="monospace" truncate title={row.original.names.join("\n")}>
          <bdi>{row.original.names[0] ?? "none"}</bdi>
        </Text>
      ),
    },
    {
      id: "ports",
      header: "Ports",
      accessorFn: (one) => one.ports.join(", "),
      size: 90,
      cell: ({ row }) => (
        <Text size="sm" truncate title={row.original.ports.join(", ")}>
          {row.original.ports.join(", ")}
        </Text>
      ),
    },
    {
      id: "address",
      header: "Address",
      accessorFn: (one) => one.address ?? "",
      size: 150,
      cell: ({ row }) => (
        <Text size="sm" ff="monospace" truncate>
          {row.original.address ?? "none"}
        </Text>
      ),
    },
    {
      id: "sessions",
      header: "Open",
      accessorKey: "sessions",
      size: 70,
      cell: ({ row }) => <Text size="sm">{row.original.sessions}</Text>,
    },
  ];
  return (
    <DataTable
      rows={consumed}
      columns={narrow ? columns.filter(({ id }) => id === "service" || id === "state") : columns}
      label="Consumed services"
      rowHeight={52}
      rowId={(one) => refOf(one.service)}
      height={consumed.length > FEW ? 480 : "none"}
    />
  );
}
