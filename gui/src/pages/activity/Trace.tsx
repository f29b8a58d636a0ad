import { Alert, Button, Group, SegmentedControl, Select, Stack, Text } from "@mantine/core";
import { IconPlayerPlay, IconPlayerStop } from "@tabler/icons-react";
import { useMemo, useState } from "react";

import { Command, Nothing, ProblemAlert, State } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { SearchField } from "../../parts/SearchField";
import { useAgent, useAgentIn } from "../../session/agent";
import { useSource } from "../../space/source";
import { Explained } from "./Explained";
import { errorInWords, fallbackInWords } from "./hops";
import {
  askedIn,
  decidedIn,
  directionOf,
  fits,
  KEPT,
  lasted,
  portOf,
  serviceOf,
  type Traced,
} from "./tracing";
import type { Trace as Tracing } from "./useTrace";

/** Requests and connections of this machine as they end, and who answered them. */
export function Trace({ trace }: { trace: Tracing }) {
  const source = useSource();
  const agent = useAgent();
  const here = useAgentIn(source.kind === "hub" ? source.space : undefined);
  if (agent.isLoading) return null;
  if (agent.channel === "none" || !here) return <NoAgent isReachable={agent.channel !== "none"} />;
  return <Traces trace={trace} />;
}

function NoAgent({ isReachable }: { isReachable: boolean }) {
  return (
    <Nothing
      title={
        isReachable
          ? "This machine is not connected to this Teamspace"
          : "Tracing needs the agent of your machine"
      }
      action={<Command>{isReachable ? "czctl start" : "czctl pair"}</Command>}
    >
      {isReachable
        ? "Only requests of this machine can be traced: those that it consumes, and those to what it serves. Connect it first, or choose the Teamspace that it is connected to."
        : "What a request was and who answered it is known on the machine that consumes or serves alone. Pair this browser with it, by this command in a terminal there. Or open the page of its local console by czctl ui, or have it told in the terminal by czctl trace-connections."}
    </Nothing>
  );
}

function Traces({ trace }: { trace: Tracing }) {
  const [address, change] = useAddress();
  const [opened, setOpened] = useState<Traced>();
  const { q = "", direction = "", service = "" } = address;
  const found = useMemo(
    () => trace.lines.filter((one) => fits(one, { text: q, direction, service })),
    [trace.lines, q, direction, service],
  );
  const services = useMemo(
    () => [...new Set([...trace.lines.map(serviceOf), service])].filter((one) => one !== "").sort(),
    [trace.lines, service],
  );
  return (
    <Stack gap="md">
      <Group gap="sm">
        {trace.isOn ? (
          <Button
            variant="default"
            leftSection={<IconPlayerStop size={16} aria-hidden />}
            onClick={trace.stop}
          >
            Stop
          </Button>
        ) : (
          <Button leftSection={<IconPlayerPlay size={16} aria-hidden />} onClick={trace.start}>
            Start
          </Button>
        )}
        <SearchField
          label="Path, condition, status"
          value={q}
          onChange={(text) => {
            change({ q: text });
          }}
        />
        <SegmentedControl
          aria-label="Direction"
          value={direction}
          onChange={(value) => {
            change({ direction: value });
          }}
          data={[
            { value: "", label: "Both ways" },
            { value: "serve", label: "Served" },
            { value: "consume", label: "Consumed" },
          ]}
        />
        <Select
          aria-label="Service"
          placeholder="Every service"
          clearable
          searchable
          w={170}
          data={services}
          value={service === "" ? null : service}
          onChange={(value) => {
            change({ service: value ?? undefined });
          }}
        />
        {trace.lines.length > 0 && (
          <Button variant="subtle" onClick={trace.clear}>
            Clear
          </Button>
        )}
        <Text size="sm" c="dimmed" role="status">
          {counts(trace, found.length)}
        </Text>
      </Group>
      {trace.error !== null && <ProblemAlert error={trace.error} again={trace.start} />}
      {trace.dropped > 0 && (
        <Alert color="yellow" p="xs" role="status">
          {trace.dropped} more were not told; there is too much going on.
        </Alert>
      )}
      {trace.lines.length === 0 ? (
        <Nothing title={trace.isOn ? "Waiting for requests" : "Nothing is traced"}>
          {trace.isOn
            ? "Requests to your variants, and connections to what you consume, are shown when they end."
            : "Start, then send a request to what you serve or consume. No header and no body is shown, and nothing is kept."}
        </Nothing>
      ) : found.length === 0 ? (
        <Nothing title="Nothing is like that">Change what you filter by, or clear it.</Nothing>
      ) : (
        <DataTable
          rows={found}
          columns={COLUMNS}
          label="Requests and connections"
          rowId={(one) => String(one.id)}
          rowHeight={52}
          height="calc(100dvh - 330px)"
          onOpen={setOpened}
          isOpen={(one) => one.id === opened?.id}
        />
      )}
      <Explained
        traced={opened}
        onClose={() => {
          setOpened(undefined);
        }}
      />
    </Stack>
  );
}

function counts(trace: Tracing, found: number): string {
  if (trace.lines.length === 0) return "";
  const shown =
    found === trace.lines.length
      ? `${String(found)} shown`
      : `${String(found)} of ${String(trace.lines.length)} shown`;
  return trace.forgotten > 0
    ? `${shown}; the last ${String(KEPT)} are kept, ${String(trace.forgotten)} before them are gone`
    : shown;
}

const clock = new Intl.DateTimeFormat("en", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});

const COLUMNS: ColumnDef<Traced>[] = [
  {
    id: "at",
    header: "Began",
    size: 140,
    enableSorting: false,
    cell: ({ row: { original: one } }) => (
      <Text size="xs" ff="monospace" component="time" dateTime={new Date(one.at * 1000).toISOString()}>
        {clock.format(one.at * 1000)}
      </Text>
    ),
  },
  {
    id: "request",
    header: "Request",
    size: 260,
    enableSorting: false,
    cell: ({ row: { original: one } }) => (
      <>
        <Text size="sm" truncate title={askedIn(one)}>
          <bdi>{askedIn(one)}</bdi>
        </Text>
        <Text size="xs" c="dimmed" truncate>
          <bdi>
            {serviceOf(one)}:{portOf(one)}
          </bdi>
        </Text>
      </>
    ),
  },
  {
    id: "direction",
    header: "Direction",
    size: 115,
    enableSorting: false,
    cell: ({ row: { original: one } }) =>
      one.type === "mirror" ? "Mirrored" : directionOf(one) === "serve" ? "Served" : "Consumed",
  },
  {
    id: "decided",
    header: "Answered by",
    size: 225,
    enableSorting: false,
    cell: ({ row: { original: one } }) => (
      <>
        <Text size="sm" truncate>
          {decidedIn(one)}
        </Text>
        {one.type === "request" && one.record.why !== "" && (
          <Text size="xs" c="dimmed" truncate title={one.record.why}>
            for <bdi>{one.record.why}</bdi>
          </Text>
        )}
      </>
    ),
  },
  {
    id: "status",
    header: "Status",
    size: 120,
    enableSorting: false,
    cell: ({ row: { original: one } }) => <Status one={one} />,
  },
  {
    id: "took",
    header: "Took",
    size: 90,
    enableSorting: false,
    cell: ({ row: { original: one } }) =>
      lasted(one.type === "request" ? one.record.milliseconds : one.mirror.variant_milliseconds),
  },
  {
    id: "why",
    header: "Why not the variant",
    size: 200,
    enableSorting: false,
    cell: ({ row: { original: one } }) => {
      const text = wrongWith(one);
      return (
        <Text size="sm" truncate title={text}>
          <bdi>{text}</bdi>
        </Text>
      );
    },
  },
];

function wrongWith(one: Traced): string {
  if (one.type === "mirror") return "";
  const { fallback, error } = one.record;
  return [fallback === "" ? "" : fallbackInWords(fallback), error === "" ? "" : errorInWords(error)]
    .filter(Boolean)
    .join("; ");
}

function Status({ one }: { one: Traced }) {
  if (one.type === "mirror")
    return one.mirror.differences.length === 0 ? (
      <State tone="good">Same</State>
    ) : (
      <State tone="busy">{`${String(one.mirror.differences.length)} differ`}</State>
    );
  const { status, error } = one.record;
  if (status === 0)
    return <State tone={error === "" ? "quiet" : "bad"}>{error === "" ? "Ended" : "Failed"}</State>;
  return <State tone={status >= 500 ? "bad" : status >= 400 ? "busy" : "good"}>{String(status)}</State>;
}
