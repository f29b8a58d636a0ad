import { Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { everything, hub, told } from "../../api/hub";
import { where } from "../../api/where";
import { Command, CopyButton, Nothing, PageHead, Person, Shown } from "../../parts";
import { Section } from "../../parts/Section";
import { useSession } from "../../session/session";
import { OwnDevices } from "./OwnDevices";
import { OwnOrganizations } from "./OwnOrganizations";
import { Password } from "./Password";
import { Places } from "./Places";
import { Providers } from "./Providers";

/** Who looks, where they are a member, and how and where they are signed in. */
export function AccountPage() {
  const { me, problem } = useSession();
  if (me === null)
    return (
      <>
        <PageHead title="Account" />
        <Nothing title="You are not signed in to a Hub">
          {problem !== null && <Text size="sm">{problem.detail}</Text>}
          <Text size="sm" mb="sm">
            Sign this machine in; this page goes on by itself:
          </Text>
          <Command>{`czctl auth login${where().hub === null ? " --hub https://hub.example.org" : ""}`}</Command>
        </Nothing>
      </>
    );
  return (
    <>
      <PageHead title="Account" />
      <Stack gap="lg" maw={960}>
        <Section title="You">
          <Group gap="md" wrap="nowrap">
            <Person name={me.user.name} id={me.user.id} size={48} hideName />
            <Stack gap={2} miw={0}>
              <Text fw={600} truncate>
                <bdi>{me.user.name}</bdi>
              </Text>
              <Text size="sm" truncate>
                <bdi>{me.user.email ?? "no e-mail address"}</bdi>
              </Text>
              <Group gap={4} wrap="nowrap">
                <Text size="xs" c="dimmed" ff="monospace" truncate>
                  {me.user.id}
                </Text>
                <CopyButton text={me.user.id} label="Copy your id" />
              </Group>
            </Stack>
          </Group>
        </Section>
        <OwnOrganizations me={me} />
        {me.user.kind === "person" && <Password />}
        {me.via === "browser" && <Providers />}
        <Places />
        <Devices />
      </Stack>
    </>
  );
}

function Devices() {
  const query = useQuery({
    queryKey: ["hub", "self", "devices"],
    refetchInterval: 30_000,
    queryFn: () =>
      everything((cursor) =>
        told(hub.GET("/api/v1/devices", { params: { query: { limit: 200, cursor: cursor ?? null } } })),
      ),
  });
  return (
    <Section
      title="Your devices"
      about="Machines that you signed in at with czctl. One that you have lost, or use no longer, is revoked."
    >
      <Shown query={query} rows={2}>
        {(devices) => <OwnDevices devices={devices} />}
      </Shown>
    </Section>
  );
}
