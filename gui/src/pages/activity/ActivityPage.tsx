import { Tabs } from "@mantine/core";
import { IconActivity, IconRouteScan } from "@tabler/icons-react";

import { PageHead } from "../../parts";
import { useAddress } from "../../parts/address";
import { ActivityList } from "./ActivityList";
import { Trace } from "./Trace";
import { useTrace } from "./useTrace";

/** What happened in the Teamspace, and what happens to requests of this machine. */
export function ActivityPage() {
  const [{ view = "activity" }, change] = useAddress();
  const trace = useTrace();
  return (
    <>
      <PageHead
        title="Activity"
        about="Who came and went, what they consume and serve, what was refused; and requests of this machine as they end."
      />
      <Tabs
        value={view}
        keepMounted={false}
        onChange={(value) => {
          // Filters of one are none of the other's.
          change({
            view: value === "activity" ? undefined : (value ?? undefined),
            q: undefined,
            kind: undefined,
            person: undefined,
            service: undefined,
            direction: undefined,
          });
        }}
      >
        <Tabs.List mb="md">
          <Tabs.Tab value="activity" leftSection={<IconActivity size={16} aria-hidden />}>
            What happened
          </Tabs.Tab>
          <Tabs.Tab value="trace" leftSection={<IconRouteScan size={16} aria-hidden />}>
            Trace requests
          </Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="activity">
          <ActivityList />
        </Tabs.Panel>
        <Tabs.Panel value="trace">
          <Trace trace={trace} />
        </Tabs.Panel>
      </Tabs>
    </>
  );
}
