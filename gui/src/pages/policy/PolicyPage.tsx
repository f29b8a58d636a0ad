import { Button, Group, Modal, Stack, Tabs, Text } from "@mantine/core";
import { useBlocker } from "@tanstack/react-router";

import { PageHead, Shown } from "../../parts";
import { useAddress } from "../../parts/address";
import { useMay } from "../../session/session";
import { DocumentTab } from "./DocumentTab";
import { useEditing } from "./draft";
import { usePolicy } from "./policies";
import { SimulatorTab } from "./SimulatorTab";
import { VersionsTab } from "./VersionsTab";

const TABS = ["document", "simulator", "versions"];

export function PolicyPage() {
  const mayRead = useMay()("policies.read");
  const [address, change] = useAddress();
  const policy = usePolicy(mayRead);
  const editing = useEditing(policy.data);
  const asked = address.tab ?? "document";
  const tab = mayRead && TABS.includes(asked) ? asked : mayRead ? "document" : "simulator";
  return (
    <>
      <PageHead
        title="Policy"
        about="Who may consume and serve what in this Teamspace. Nothing is allowed that no policy permits, and what any policy forbids is forbidden."
      />
      <Tabs
        value={tab}
        keepMounted={false}
        onChange={(value) => {
          // What was opened in another tab is closed.
          change({ tab: value ?? "", version: "", from: "" }, true);
        }}
      >
        <Tabs.List mb="md">
          {mayRead && (
            <Tabs.Tab value="document">
              {editing?.isChanged === true ? "Document (not saved)" : "Document"}
            </Tabs.Tab>
          )}
          <Tabs.Tab value="simulator">Simulator</Tabs.Tab>
          {mayRead && <Tabs.Tab value="versions">Versions</Tabs.Tab>}
        </Tabs.List>
        {mayRead && (
          <Tabs.Panel value="document">
            <Shown query={policy} rows={10}>
              {(inForce) => editing !== undefined && <DocumentTab inForce={inForce} editing={editing} />}
            </Shown>
          </Tabs.Panel>
        )}
        <Tabs.Panel value="simulator">
          <SimulatorTab version={policy.data?.number} />
        </Tabs.Panel>
        {mayRead && (
          <Tabs.Panel value="versions">
            <VersionsTab inForce={policy.data} />
          </Tabs.Panel>
        )}
      </Tabs>
      <BeforeLeaving isChanged={editing?.isChanged ?? false} />
    </>
  );
}

/** Asks before changes are lost; within the page nothing is. */
function BeforeLeaving({ isChanged }: { isChanged: boolean }) {
  const blocker = useBlocker({
    shouldBlockFn: ({ current, next }) => isChanged && current.pathname !== next.pathname,
    enableBeforeUnload: isChanged,
    disabled: !isChanged,
    withResolver: true,
  });
  const stay = () => {
    blocker.reset?.();
  };
  return (
    <Modal opened={blocker.status === "blocked"} onClose={stay} title="Leave without saving?" centered>
      <Stack gap="md">
        <Text size="sm">Your changes of the policy are kept nowhere else. Leave, and they are gone.</Text>
        <Group justify="flex-end">
          <Button variant="default" onClick={stay} data-autofocus>
            Stay here
          </Button>
          <Button color="red" onClick={() => blocker.proceed?.()}>
            Leave without saving
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
