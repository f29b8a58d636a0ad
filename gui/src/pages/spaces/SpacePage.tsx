import { Alert, Button, Group, SimpleGrid, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconClock, IconInfoCircle, IconPlayerPause, IconPlugConnectedX } from "@tabler/icons-react";
import { useParams } from "@tanstack/react-router";

import type { Space } from "../../api/hub.generated";
import { Command, CopyButton, PageHead, Shown, State, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import { PageLink } from "../../parts/PageLink";
import { Section } from "../../parts/Section";
import { useMay, useOrganization } from "../../session/session";
import { usePresence } from "../../space/source";
import { JoinSpace } from "./AddSpace";
import { Administration } from "./Administration";
import { ConnectSection } from "./ConnectSection";
import { Counts } from "./Counts";
import { DoorSection } from "./DoorSection";
import { useHubVersion, useSpace } from "./queries";
import { addressOf, compareReleases, STATES } from "./words";

/** One Teamspace: how it is, how to get in, and what can be done with it. */
export function SpacePage() {
  const organization = useOrganization();
  const { space: id } = useParams({ from: "/o/$org/spaces/$space" });
  const query = useSpace(organization.id, id);
  return (
    <>
      <PageHead title={query.data?.name ?? "Teamspace"}>
        {query.data !== undefined && (
          <State tone={STATES[query.data.state].tone}>{STATES[query.data.state].word}</State>
        )}
      </PageHead>
      <Shown query={query}>{(space) => <Overview organization={organization.id} space={space} />}</Shown>
    </>
  );
}

function Overview({ organization, space }: { organization: string; space: Space }) {
  const may = useMay();
  return (
    <Stack gap="lg">
      <Attention organization={organization} space={space} />
      {space.certified_at !== null && <Counts organization={organization} space={space.id} />}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Section title="How it is">
          <SpaceFacts organization={organization} space={space} />
        </Section>
        <ConnectSection organization={organization} space={space} />
      </SimpleGrid>
      <DoorSection organization={organization} space={space} />
      {may("spaces.manage") && <Managed organization={organization} space={space} />}
    </Stack>
  );
}

/** What is not as it should be, first, with the next step. */
function Attention({ organization, space }: { organization: string; space: Space }) {
  const [joining, { open, close }] = useDisclosure(false);
  return (
    <>
      <Lacking space={space} onJoin={open} />
      {/* It shows how the cluster joins, also when that has changed what is lacking. */}
      <JoinSpace organization={organization} space={space} opened={joining} onClose={close} />
    </>
  );
}

function Lacking({ space, onJoin }: { space: Space; onJoin: () => void }) {
  const may = useMay();
  const { means } = STATES[space.state];
  if (space.state === "invited")
    return (
      <Alert color="yellow" icon={<IconClock aria-hidden />}>
        <Text size="sm" fw={600} mb={4}>
          No cluster has joined yet
        </Text>
        <Group justify="space-between" gap="md">
          <Text size="sm" flex={1} miw={240}>
            {may("spaces.manage")
              ? "Install it in its cluster by a join token; what happens is shown as it happens."
              : "Whoever manages Teamspaces here lets a cluster join: an admin or an owner."}
          </Text>
          {may("spaces.manage") && <Button onClick={onJoin}>Join a cluster</Button>}
        </Group>
      </Alert>
    );
  if (space.state === "unreachable")
    return (
      <Alert color="red" icon={<IconPlugConnectedX aria-hidden />} role="status">
        <Text size="sm" fw={600} mb={4}>
          Not connected with the Hub
        </Text>
        <Stack gap="xs">
          <Text size="sm">
            {means} It was seen <When at={space.seen_at} />.
          </Text>
          <Text size="sm">Look at the cluster, by a kubeconfig:</Text>
          <Command>{"czctl teamspace status"}</Command>
        </Stack>
      </Alert>
    );
  if (space.state === "suspended")
    return (
      <Alert color="red" icon={<IconPlayerPause aria-hidden />} role="status">
        <Text size="sm" fw={600} mb={4}>
          Suspended
        </Text>
        <Text size="sm">{means}</Text>
      </Alert>
    );
  if (space.host === null)
    return (
      <Alert color="yellow" icon={<IconInfoCircle aria-hidden />} role="status">
        <Text size="sm" fw={600} mb={4}>
          No address for laptops yet
        </Text>
        <Stack gap="xs">
          <Text size="sm">
            Its load balancer has no address yet, which may take five minutes or more. Where the cluster makes
            none, give it a node port or an external host.
          </Text>
          <Command>{"kubectl get service codezero --namespace codezero"}</Command>
        </Stack>
      </Alert>
    );
  return null;
}

function SpaceFacts({ organization, space }: { organization: string; space: Space }) {
  const may = useMay();
  return (
    <Facts
      facts={[
        [
          "Channel",
          space.connected ? (
            "connected now"
          ) : space.seen_at === null ? (
            "not connected yet"
          ) : (
            <>
              not connected; seen <When at={space.seen_at} />
            </>
          ),
        ],
        [
          "Address",
          space.host === null ? (
            "not yet known"
          ) : (
            <Group gap={4} wrap="nowrap">
              <Text size="sm" ff="monospace" style={{ overflowWrap: "anywhere" }}>
                {addressOf(space.host, space.port)}
              </Text>
              <CopyButton text={addressOf(space.host, space.port)} label="Copy the address" />
            </Group>
          ),
        ],
        ["Release", space.release === null ? null : <Release key="release" space={space} />],
        [
          "Policy",
          may("policies.read") ? (
            <PageLink
              to="/o/$org/spaces/$space/policy"
              params={{ org: organization, space: space.id }}
              size="sm"
            >
              version {space.policy_version}
            </PageLink>
          ) : (
            `version ${String(space.policy_version)}`
          ),
        ],
        [
          "Key",
          space.fingerprint === null ? null : (
            <>
              <Group gap={4} wrap="nowrap">
                <Text size="xs" ff="monospace" style={{ overflowWrap: "anywhere" }}>
                  {space.fingerprint}
                </Text>
                <CopyButton text={space.fingerprint} label="Copy the fingerprint" />
              </Group>
              {space.rotating && <Text size="xs">Its cluster is asked to make itself another one.</Text>}
            </>
          ),
        ],
        [
          "Certified",
          space.certified_at === null ? "not yet" : <When key="certified" at={space.certified_at} />,
        ],
        ["Created", <When key="created" at={space.created_at} />],
        [
          "Id",
          <Group key="id" gap={4} wrap="nowrap">
            <Text size="xs" ff="monospace" truncate>
              {space.id}
            </Text>
            <CopyButton text={space.id} label="Copy the id" />
          </Group>,
        ],
      ]}
    />
  );
}

/** The release, and what to do where it is not that of the Hub. */
function Release({ space }: { space: Space }) {
  const version = useHubVersion();
  const hubRelease = version.data?.release ?? null;
  const order = compareReleases(space.release, hubRelease);
  return (
    <>
      <bdi>{space.release}</bdi>
      {order === -1 && (
        <Text size="xs">
          Older than the Hub, which is {hubRelease}. <b>czctl teamspace upgrade</b>, by a czctl of that
          release, brings it there.
        </Text>
      )}
      {order === 1 && <Text size="xs">Newer than the Hub, which is {hubRelease}. Upgrade the Hub.</Text>}
    </>
  );
}

/** Administration, which says how many it concerns. */
function Managed({ organization, space }: { organization: string; space: Space }) {
  const presence = usePresence();
  const laptops = presence.data?.items.filter((one) => one.state !== "gone");
  const on = laptops === undefined ? undefined : new Set(laptops.map((one) => one.device.user)).size;
  return <Administration organization={organization} space={space} on={on} />;
}
