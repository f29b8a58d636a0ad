import { Group, SegmentedControl, Text, VisuallyHidden } from "@mantine/core";
import { useMemo } from "react";

import { Nothing, PageHead, Person, Shown, Stale, State, When } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { SearchField } from "../../parts/SearchField";
import { useLaptops, type Laptop } from "../../space/laptops";
import { useNames } from "../../space/names";
import { answersInWords } from "../../space/wording";
import { LaptopDrawer } from "./LaptopDrawer";
import { filtered, sortOf, textOfSort } from "./people";

/** Who is on, what they consume and serve. */
export function PeoplePage() {
  const laptops = useLaptops();
  return (
    <>
      <PageHead
        title="People"
        about="The laptops that are connected to this Teamspace. One that is away keeps what it serves for a while; meanwhile the services' own pods answer."
      />
      <Shown query={laptops}>
        {(told) => (
          <>
            <Stale since={told.staleSince} />
            <People laptops={told.items} />
          </>
        )}
      </Shown>
    </>
  );
}

function People({ laptops }: { laptops: Laptop[] }) {
  const [address, change] = useAddress();
  const names = useNames();
  const nameOf = useMemo(
    () => (laptop: Laptop) => names(laptop.user) ?? (laptop.userName || "Somebody"),
    [names],
  );
  const { q = "", state = "", does = "", session } = address;
  const found = useMemo(
    () => filtered(laptops, { text: q, state, does }, nameOf),
    [laptops, q, state, does, nameOf],
  );
  const columns = useMemo(() => columnsFor(nameOf), [nameOf]);
  if (laptops.length === 0)
    return (
      <Nothing title="Nobody is connected">
        Whoever connects with <code>czctl start</code> is here at once, with what they consume and serve.
      </Nothing>
    );
  const opened = laptops.find((one) => one.session === session);
  return (
    <>
      <Group gap="sm">
        <SearchField
          label="Person, laptop or service"
          value={q}
          onChange={(text) => {
            change({ q: text });
          }}
        />
        <Choice
          label="State"
          value={state}
          onChange={(value) => {
            change({ state: value });
          }}
          data={[
            { value: "", label: "Any state" },
            { value: "online", label: "Online" },
            { value: "away", label: "Away" },
          ]}
        />
        <Choice
          label="What they do"
          value={does}
          onChange={(value) => {
            change({ does: value });
          }}
          data={[
            { value: "", label: "Anything" },
            { value: "serves", label: "Serving" },
            { value: "consumes", label: "Consuming" },
          ]}
        />
        <Text size="sm" c="dimmed" role="status">
          {counted(found.length, laptops.length)}
        </Text>
      </Group>
      {found.length === 0 ? (
        <Nothing title="Nobody is like that">Change what you filter by, or clear it.</Nothing>
      ) : (
        <DataTable
          rows={found}
          columns={columns}
          label="Laptops"
          rowHeight={56}
          rowId={(one) => one.session}
          initialSort={sortOf(address.sort, [{ id: "person", desc: false }])}
          onSort={(sorting) => {
            change({ sort: textOfSort(sorting) });
          }}
          onOpen={(one) => {
            change({ session: one.session }, true);
          }}
          isOpen={(one) => one.session === session}
        />
      )}
      <LaptopDrawer
        laptop={opened}
        name={opened === undefined ? "" : nameOf(opened)}
        isGone={session !== undefined && opened === undefined}
        onClose={() => {
          change({ session: undefined });
        }}
      />
    </>
  );
}

function Choice({
  label,
  value,
  onChange,
  data,
}: {
  label: string;
  value: string;
  onChange: (value: string) => void;
  data: { value: string; label: string }[];
}) {
  return <SegmentedControl aria-label={label} value={value} onChange={onChange} data={data} />;
}

function counted(found: number, all: number): string {
  const laptops = all === 1 ? "laptop" : "laptops";
  return found === all ? `${String(all)} ${laptops}` : `${String(found)} of ${String(all)} ${laptops}`;
}

function columnsFor(nameOf: (laptop: Laptop) => string): ColumnDef<Laptop>[] {
  return [
    {
      id: "person",
      header: "Person",
      size: 180,
      accessorFn: nameOf,
      cell: ({ row: { original: one } }) => (
        <Person name={nameOf(one)} id={one.user} away={one.state === "away"} />
      ),
    },
    {
      id: "laptop",
      header: "Laptop",
      size: 140,
      accessorFn: (one) => one.name,
      cell: ({ row: { original: one } }) =>
        one.name === "" ? <Text c="dimmed">-</Text> : <bdi title={one.name}>{one.name}</bdi>,
    },
    {
      id: "state",
      header: "State",
      size: 130,
      accessorFn: (one) => one.state,
      cell: ({ row: { original: one } }) => (
        <State tone={one.state === "online" ? "good" : "busy"}>
          {one.state === "online" ? "Online" : "Away"}
        </State>
      ),
    },
    {
      id: "since",
      header: "Since",
      size: 150,
      accessorFn: (one) => one.since ?? 0,
      cell: ({ row: { original: one } }) =>
        one.since === null ? <Text c="dimmed">-</Text> : <When at={one.since} />,
    },
    {
      id: "serves",
      header: "Serves",
      size: 300,
      accessorFn: (one) => one.serves.length,
      sortDescFirst: true,
      cell: ({ row: { original: one } }) => <Serves laptop={one} />,
    },
    {
      id: "consumes",
      header: "Consumes",
      size: 190,
      accessorFn: (one) => one.consumes.length,
      sortDescFirst: true,
      cell: ({ row: { original: one } }) => <Consumes services={one.consumes} />,
    },
  ];
}

function Serves({ laptop }: { laptop: Laptop }) {
  const [first, ...others] = laptop.serves;
  if (first === undefined) return <Nobody>serves nothing</Nobody>;
  const words = answersInWords(first);
  return (
    <>
      <Text size="sm" truncate title={first.service}>
        <bdi>{first.service}</bdi>
        {others.length > 0 && ` and ${String(others.length)} more`}
      </Text>
      <Text size="xs" c="dimmed" truncate title={words}>
        for <bdi>{words}</bdi>
      </Text>
    </>
  );
}

function Consumes({ services }: { services: string[] }) {
  if (services.length === 0) return <Nobody>consumes nothing</Nobody>;
  if (services.length > 2) return <span>{services.length} services</span>;
  return (
    <span title={services.join(", ")}>
      {services.map((service, number) => (
        <span key={service}>
          {number > 0 && ", "}
          <bdi>{service}</bdi>
        </span>
      ))}
    </span>
  );
}

function Nobody({ children }: { children: string }) {
  return (
    <>
      <Text span c="dimmed" aria-hidden>
        -
      </Text>
      <VisuallyHidden>{children}</VisuallyHidden>
    </>
  );
}
