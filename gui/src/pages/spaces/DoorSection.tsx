import { Button, Code, Stack, Tabs, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState } from "react";

import { hub, idempotencyKey, told } from "../../api/hub";
import type { DoorToken, Space } from "../../api/hub.generated";
import { Command, ProblemAlert, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import { Dialog } from "../../parts/FormDialog";
import { PageLink } from "../../parts/PageLink";
import { Section } from "../../parts/Section";
import { ToldOnce } from "../../parts/ToldOnce";
import { useMay, useSession } from "../../session/session";
import { addressOf } from "./words";
import { curlThrough, nodeEnvironment, NODE_PROGRAM, serverNameOf } from "./connecting";
import { useHubVersion } from "./queries";

/** How programs get in that cannot have a tunnel: by the CONNECT door, with a token. */
export function DoorSection({ organization, space }: { organization: string; space: Space }) {
  const { me } = useSession();
  const may = useMay();
  const version = useHubVersion();
  const [token, setToken] = useState<DoorToken | null>(null);
  const [opened, { open, close }] = useDisclosure(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  if (!may("spaces.connect") || space.host === null || space.port === null) return null;
  // A token speaks for a machine; a browser that is signed in is none.
  const isMachine = me?.device !== null && me?.device !== undefined;
  const make = async () => {
    setBusy(true);
    setError(null);
    try {
      setToken(
        await told(
          hub.POST("/api/v1/organizations/{organization}/spaces/{space}/token", {
            params: {
              path: { organization, space: space.id },
              header: { "Idempotency-Key": idempotencyKey() },
            },
          }),
        ),
      );
      open();
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Section
      title="Programs without a tunnel"
      about="Jobs and programs that cannot have the agent reach services by HTTP CONNECT, at the same address, with a token that is good for minutes."
      action={
        isMachine ? (
          <Button variant="default" style={{ flexShrink: 0 }} loading={busy} onClick={() => void make()}>
            Make a token
          </Button>
        ) : undefined
      }
    >
      {error !== null && <ProblemAlert error={error} />}
      {!isMachine && (
        <Stack gap="xs">
          <Text size="sm">
            A token speaks for a machine or an API key. On a machine that is signed in, this prints one:
          </Text>
          <Command>{`czctl space token ${space.name}`}</Command>
        </Stack>
      )}
      <Tabs defaultValue="node" keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="node">Node.js</Tabs.Tab>
          <Tabs.Tab value="curl">curl</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="node" pt="md">
          <Stack gap="xs">
            <Text size="sm">
              The package <Code>@c6o/codezero-agent</Code> fetches tokens itself, by an{" "}
              {may("apikeys.read") ? (
                <PageLink to="/o/$org/apikeys" params={{ org: organization }} size="sm" underline="always">
                  API key
                </PageLink>
              ) : (
                "API key"
              )}
              : <Code>CZ_ORG_API_KEY</Code> from your secrets. The rest of its environment:
            </Text>
            <Command label="Copy the variables">
              {nodeEnvironment(version.data?.url ?? location.origin, organization, space.id)}
            </Command>
            <Command label="Copy the program">{NODE_PROGRAM}</Command>
          </Stack>
        </Tabs.Panel>
        <Tabs.Panel value="curl" pt="md">
          <Stack gap="xs">
            <Text size="sm">
              With this Hub's root certificate in <Code>root.pem</Code>; the local console shows it with each
              token:
            </Text>
            <Command>{curlThrough({ host: space.host, port: space.port }, space)}</Command>
          </Stack>
        </Tabs.Panel>
      </Tabs>
      <Dialog
        title={`A token for ${space.name}`}
        opened={opened && token !== null}
        onClose={close}
        size="lg"
        careful
      >
        {token !== null && (
          <ToldOnce
            what="This token"
            value={token.token}
            copy="Copy the token"
            onDone={() => {
              close();
              setToken(null);
            }}
          >
            <Facts
              facts={[
                ["Ends", <When key="ends" at={token.expires_at} />],
                ["Address", addressOf(token.host, token.port)],
                ["Server name", serverNameOf(space.id)],
                ["Header", <Code key="header">Proxy-Authorization: Bearer TOKEN</Code>],
              ]}
            />
            <Text size="sm">
              The root to believe, for <Code>root.pem</Code>:
            </Text>
            <Command label="Copy the root certificate">{token.root.trim()}</Command>
          </ToldOnce>
        )}
      </Dialog>
    </Section>
  );
}
