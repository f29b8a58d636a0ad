import { Group, Select, Switch, Text } from "@mantine/core";
import { lazy, Suspense, useCallback, useMemo } from "react";

import { Loading, Nothing, PageHead, ProblemAlert, Shown, Stale } from "../../parts";
import { useAddress } from "../../parts/address";
import { SearchField } from "../../parts/SearchField";
import type { Presence, Service } from "../../api/agent.generated";
import { laptopsIn, type Laptop } from "../../space/laptops";
import { useNames } from "../../space/names";
import { useCatalog, usePresence } from "../../space/source";
import { Detail } from "./Detail";
import { MOST_NODES, pictureOf } from "./picture";
import { Relations } from "./Relations";

// The graph alone needs its library, and whoever reads the list needs none.
const Canvas = lazy(async () => ({ default: (await import("./Canvas")).Canvas }));

/** Who consumes and serves what, and what is unhealthy. */
export function GraphPage() {
  const catalog = useCatalog();
  const presence = usePresence();
  return (
    <>
      <PageHead
        title="Graph"
        about="Laptops, the services that they consume, and the variants that answer in place of the services' own pods."
      />
      <Shown query={catalog}>
        {(told) => (
          <>
            <Stale since={told.staleSince} />
            {presence.error !== null && (
              <ProblemAlert error={presence.error} again={() => void presence.refetch()} />
            )}
            {presence.isPending ? (
              <Loading />
            ) : (
              <Pictured services={told.items} presences={presence.data?.items ?? []} />
            )}
          </>
        )}
      </Shown>
    </>
  );
}

function Pictured({ services, presences }: { services: Service[]; presences: Presence[] }) {
  const [address, change] = useAddress();
  const names = useNames();
  const { q = "", namespace = "", all = "", open, as = "" } = address;
  const laptops = useMemo(() => laptopsIn(presences, services), [presences, services]);
  const nameOf = useCallback(
    (laptop: Laptop) => names(laptop.user) ?? (laptop.userName || "Somebody"),
    [names],
  );
  const picture = useMemo(
    () => pictureOf(services, laptops, { text: q, namespace, all: all !== "" }, nameOf),
    [services, laptops, q, namespace, all, nameOf],
  );
  const namespaces = useMemo(
    () =>
      [
        ...new Set([...services.map((one) => one.ref.namespace), ...(namespace === "" ? [] : [namespace])]),
      ].sort(),
    [services, namespace],
  );
  const onOpen = useCallback(
    (node: string) => {
      change({ open: node }, true);
    },
    [change],
  );
  return (
    <>
      <Group gap="md">
        <SearchField
          label="Service, person or laptop"
          value={q}
          onChange={(text) => {
            change({ q: text });
          }}
        />
        <Select
          aria-label="Namespace"
          placeholder="Every namespace"
          clearable
          searchable
          limit={200}
          w={210}
          data={namespaces}
          value={namespace === "" ? null : namespace}
          onChange={(value) => {
            change({ namespace: value ?? undefined });
          }}
        />
        <Switch
          label="Also what nobody uses"
          checked={all !== ""}
          onChange={(event) => {
            change({ all: event.currentTarget.checked ? "yes" : undefined });
          }}
        />
        <Switch
          label="As a list"
          checked={as === "list"}
          onChange={(event) => {
            change({ as: event.currentTarget.checked ? "list" : undefined });
          }}
        />
      </Group>
      {picture.leftOut > 0 && (
        <Text size="sm" role="status">
          {picture.leftOut === 1 ? "1 service is" : `${String(picture.leftOut)} services are`} left out: at
          most {MOST_NODES} things are shown, what needs attention and what is used first. Choose a namespace,
          or filter.
        </Text>
      )}
      {picture.nodes.length === 0 ? (
        <Empty isFiltered={q !== "" || namespace !== ""} hasServices={services.length > 0} />
      ) : as === "list" ? (
        <Relations picture={picture} nameOf={nameOf} onOpen={onOpen} opened={open} />
      ) : (
        <Suspense fallback={<Loading />}>
          <Canvas picture={picture} filter={[q, namespace, all].join("\n")} opened={open} onOpen={onOpen} />
        </Suspense>
      )}
      <Detail
        node={open}
        services={services}
        laptops={laptops}
        nameOf={nameOf}
        onOpen={onOpen}
        onClose={() => {
          change({ open: undefined });
        }}
      />
    </>
  );
}

function Empty({ isFiltered, hasServices }: { isFiltered: boolean; hasServices: boolean }) {
  if (isFiltered)
    return (
      <Nothing title="Nothing is like that">
        Change what you filter by, or show also what nobody uses.
      </Nothing>
    );
  return (
    <Nothing title={hasServices ? "Nobody consumes or serves anything yet" : "There are no services yet"}>
      {hasServices
        ? "Consume or serve a service in the catalog, and it is here at once. All services can be shown by the switch above."
        : "What the cluster of this Teamspace runs is here as soon as the Teamspace tells it."}
    </Nothing>
  );
}
