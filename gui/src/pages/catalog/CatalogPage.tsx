import { Box, Button, Stack } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { useCallback, useEffect, useMemo, useRef } from "react";

import type { Service } from "../../api/agent.generated";
import { Nothing, PageHead, Shown, Stale } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable } from "../../parts/DataTable";
import { ReadOnly } from "../../parts/ReadOnly";
import { useAgent, useAgentIn } from "../../session/agent";
import { consumersOf, refOf } from "../../space/services";
import { useCatalog, usePresence, useSource, type Told } from "../../space/source";
import { columnsOf, type Consumption } from "./columns";
import { useConsume, useConsumed } from "./consuming";
import { filtered, namespacesOf, showOf } from "./filtering";
import { Filters } from "./Filters";
import { MachineBar } from "./MachineBar";
import { ServiceDrawer } from "./ServiceDrawer";

/** What runs in the Teamspace: to be looked through, consumed and served. */
export function CatalogPage() {
  const source = useSource();
  const hasAgent = useAgentIn(source.kind === "hub" ? source.space : undefined);
  const { mayAct } = useAgent();
  const catalog = useCatalog();
  return (
    <>
      <PageHead
        title="Catalog"
        about="Consume a service to reach it by its name from this machine; serve one to answer some of its requests here."
      >
        {hasAgent && mayAct && <MachineBar namespaces={namespacesOf(catalog.data?.items ?? [])} />}
      </PageHead>
      {hasAgent && !mayAct && (
        <Box mb="sm">
          <ReadOnly />
        </Box>
      )}
      <Shown query={catalog} rows={10}>
        {(told) => <Catalog told={told} hasAgent={hasAgent} />}
      </Shown>
    </>
  );
}

/** Who consumes what, by the agent where there is one, else as the team's laptops tell. */
function useConsumption(hasAgent: boolean): Consumption | undefined {
  const consumed = useConsumed(useConsume(hasAgent).data);
  const presences = usePresence().data?.items;
  return useMemo(() => {
    if (hasAgent) return consumed && { by: "machine", consumed };
    return presences && { by: "team", consumers: consumersOf(presences) };
  }, [hasAgent, consumed, presences]);
}

function Catalog({ told, hasAgent }: { told: Told<Service>; hasAgent: boolean }) {
  const [address, setAddress] = useAddress();
  const consumption = useConsumption(hasAgent);
  const services = told.items;
  const { q = "", namespace = "", service: opened = "" } = address;
  const show = showOf(address.show);
  const isWide = useMediaQuery("(min-width: 62em)", true, { getInitialValueInEffect: false });
  const columns = useMemo(() => columnsOf(consumption, isWide), [consumption, isWide]);
  const rows = useMemo(() => {
    const isConsumed = ({ ref }: Service) =>
      consumption?.by === "machine"
        ? consumption.consumed.has(refOf(ref))
        : (consumption?.consumers(ref).length ?? 0) > 0;
    return filtered(services, { q, namespace, show }, isConsumed);
  }, [services, q, namespace, show, consumption]);
  const table = useRef<HTMLDivElement>(null);
  const toTop = () =>
    table.current?.querySelector("[data-index]")?.closest('[role="rowgroup"]')?.scrollTo(0, 0);
  const toFirst = () => {
    toTop();
    requestAnimationFrame(() => table.current?.querySelector<HTMLElement>('[data-index="0"]')?.focus());
  };
  // What is found begins at the top, wherever somebody had scrolled to in what was shown before.
  useEffect(() => {
    toTop();
  }, [q, namespace, show]);
  const open = useCallback(
    (service: Service) => {
      setAddress({ service: refOf(service.ref) }, true);
    },
    [setAddress],
  );
  if (services.length === 0)
    return (
      <>
        <Stale since={told.staleSince} />
        <Nothing title="No services yet">
          The Teamspace has told of no service that you may consume. Either it is not connected, nothing runs
          in its cluster, or its policy lets you see nothing: ask who keeps it.
        </Nothing>
      </>
    );
  const clear = () => {
    setAddress({ q: "", namespace: "", show: "" });
  };
  return (
    <Stack gap="sm">
      <Stale since={told.staleSince} />
      <Filters services={services} shown={rows.length} toFirst={toFirst} />
      {rows.length === 0 ? (
        <Nothing
          title="No service matches"
          action={
            <Button variant="default" onClick={clear}>
              Show all services
            </Button>
          }
        >
          There are {services.length.toLocaleString("en")} services in this catalog, and these filters leave
          none.
        </Nothing>
      ) : (
        <Box ref={table}>
          <DataTable
            label="Services"
            height="calc(100dvh - 276px)"
            rows={rows}
            columns={columns}
            rowId={(service) => refOf(service.ref)}
            onOpen={open}
            isOpen={(service) => refOf(service.ref) === opened}
          />
        </Box>
      )}
      <ServiceDrawer
        opened={opened}
        services={services}
        hasAgent={hasAgent}
        onClose={() => {
          setAddress({ service: "" });
        }}
      />
    </Stack>
  );
}
