import { Paper, SimpleGrid, Text } from "@mantine/core";
import type { ReactNode } from "react";

import { PageLink } from "../../parts/PageLink";
import { ProblemAlert, Stale } from "../../parts";
import { useMay } from "../../session/session";
import { useCatalog, usePresence } from "../../space/source";
import classes from "./Counts.module.css";

/** How much there is in a Teamspace, each leading to where it is shown. */
export function Counts({ organization, space }: { organization: string; space: string }) {
  const may = useMay();
  const catalog = useCatalog();
  const presence = usePresence();
  const params = { org: organization, space };
  const services = catalog.data?.items;
  const laptops = presence.data?.items.filter((one) => one.state !== "gone");
  const people = laptops === undefined ? undefined : new Set(laptops.map((one) => one.device.user)).size;
  const variants = services?.reduce((sum, one) => sum + (one.serving?.variants.length ?? 0), 0);
  return (
    <>
      <Stale since={catalog.data?.staleSince} />
      {(catalog.isError || presence.isError) && (
        <ProblemAlert
          error={catalog.error ?? presence.error}
          title="What is there was not read"
          again={() => {
            void catalog.refetch();
            void presence.refetch();
          }}
        />
      )}
      <SimpleGrid cols={{ base: 1, xs: 3 }} spacing="md">
        <Count number={services?.length} one="service" many="services" failed={catalog.isError}>
          <PageLink to="/o/$org/spaces/$space/catalog" params={params} className={classes.link ?? ""}>
            Catalog
          </PageLink>
        </Count>
        {may("sessions.read") && (
          <Count
            number={people}
            one="person on"
            many="people on"
            failed={presence.isError}
            more={
              laptops !== undefined && people !== undefined && laptops.length > people
                ? `by ${String(laptops.length)} laptops`
                : undefined
            }
          >
            <PageLink to="/o/$org/spaces/$space/people" params={params} className={classes.link ?? ""}>
              People
            </PageLink>
          </Count>
        )}
        <Count number={variants} one="variant" many="variants" failed={catalog.isError}>
          {may("sessions.read") ? (
            <PageLink to="/o/$org/spaces/$space/graph" params={params} className={classes.link ?? ""}>
              Graph
            </PageLink>
          ) : (
            <PageLink to="/o/$org/spaces/$space/catalog" params={params} className={classes.link ?? ""}>
              Catalog
            </PageLink>
          )}
        </Count>
      </SimpleGrid>
    </>
  );
}

function Count({
  number,
  one,
  many,
  more,
  failed,
  children,
}: {
  number: number | undefined;
  one: string;
  many: string;
  more?: string | undefined;
  failed: boolean;
  children: ReactNode;
}) {
  return (
    <Paper withBorder p="md" className={classes.count ?? ""}>
      <Text fz={28} fw={600} lh={1.2}>
        {number ?? (failed ? "–" : "…")}
      </Text>
      <Text size="sm">
        {number === 1 ? one : many}
        {more === undefined ? "" : ` ${more}`}
      </Text>
      <Text size="sm" mt={6}>
        {children}
      </Text>
    </Paper>
  );
}
