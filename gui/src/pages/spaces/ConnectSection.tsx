import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { IconCircleCheck, IconPlugConnected } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { localConsole } from "../../api/agent";
import type { Space } from "../../api/hub.generated";
import { Command, ProblemAlert, said } from "../../parts";
import { PageLink } from "../../parts/PageLink";
import { ReadOnly } from "../../parts/ReadOnly";
import { Section } from "../../parts/Section";
import { useAgent } from "../../session/agent";
import { useHubVersion } from "./queries";

/** How this machine, or another one, gets into a Teamspace. */
export function ConnectSection({ organization, space }: { organization: string; space: Space }) {
  const { channel } = useAgent();
  if (space.certified_at === null)
    return (
      <Section title="Connect">
        <Text size="sm">Laptops connect when a cluster has joined.</Text>
      </Section>
    );
  return (
    <Section title="Connect" about="A connected machine reaches the services here by their names.">
      {channel !== "none" ? (
        <ThisMachine organization={organization} space={space} />
      ) : (
        <ByCommands space={space} />
      )}
    </Section>
  );
}

function ThisMachine({ organization, space }: { organization: string; space: Space }) {
  const { status, isLoading, mayAct } = useAgent();
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const isHere = status?.teamspace?.id === space.id;
  if (isHere)
    return (
      <Alert color="teal" icon={<IconCircleCheck aria-hidden />} p="sm">
        <Text size="sm">
          {status.tunnel.state === "connected"
            ? "This machine is connected here. "
            : "This machine is connecting to it. "}
          <PageLink to="/machine" size="sm" underline="always">
            My machine
          </PageLink>
        </Text>
      </Alert>
    );
  if (!mayAct) return <ReadOnly />;
  const connect = async () => {
    setBusy(true);
    setError(null);
    try {
      const now = await localConsole.selectTeamspace(organization, space.id);
      said(
        now === undefined
          ? `${space.name} is selected; the agent goes there when it starts`
          : `This machine goes to ${space.name}`,
      );
      await client.invalidateQueries({ queryKey: ["agent"] });
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Stack gap="sm">
      {status?.teamspace !== undefined && status.teamspace !== null && (
        <Text size="sm">
          It is in <bdi>{status.teamspace.name}</bdi> now. What it consumes and serves there ends.
        </Text>
      )}
      {error !== null && <ProblemAlert error={error} />}
      <Group>
        <Button
          leftSection={<IconPlugConnected size={16} aria-hidden />}
          loading={busy}
          onClick={() => void connect()}
        >
          {status === undefined && !isLoading ? "Select for this machine" : "Connect this machine"}
        </Button>
      </Group>
      {status === undefined && !isLoading && (
        <Text size="sm">
          The agent is not running: it goes there when it is started.{" "}
          <PageLink to="/machine" size="sm" underline="always">
            Start it
          </PageLink>
        </Text>
      )}
    </Stack>
  );
}

function ByCommands({ space }: { space: Space }) {
  const version = useHubVersion();
  return (
    <Stack gap="xs">
      <Text size="sm">On the machine that is to be connected:</Text>
      <Command>{`czctl auth login --hub ${version.data?.url ?? location.origin}`}</Command>
      <Command>{`czctl space select ${space.name}`}</Command>
      <Command>{"czctl start"}</Command>
      <Text size="sm">
        Then consume and serve with czctl, or in the browser: this one when it is paired, or by the local
        console.
      </Text>
      <Command>{"czctl pair"}</Command>
      <Command>{"czctl ui"}</Command>
    </Stack>
  );
}
