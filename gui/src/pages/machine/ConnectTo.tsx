import { Alert, Button, Group, Select, Stack, Text } from "@mantine/core";
import { IconLogin } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { localConsole } from "../../api/agent";
import type { StatusView } from "../../api/agent.generated";
import type { OwnOrganization } from "../../api/hub.generated";
import { where } from "../../api/where";
import { useSpaces } from "../../app/Shell";
import { Command, ProblemAlert, said, Shown } from "../../parts";
import { Section } from "../../parts/Section";
import { useSession } from "../../session/session";
import { useMachineChanged } from "./queries";

/** Which Teamspace this machine goes to. */
export function ConnectTo({ status }: { status: StatusView | undefined }) {
  const { me } = useSession();
  if (me === null) return <NotSignedIn status={status} />;
  const may = me.organizations.filter((one) => one.permissions.includes("spaces.connect"));
  if (may.length === 0)
    return (
      <Section title="Connect to a Teamspace">
        <Text size="sm">
          Your roles let you connect to none. An admin of your organization gives you another role.
        </Text>
      </Section>
    );
  return <Choice organizations={may} status={status} />;
}

function Choice({
  organizations,
  status,
}: {
  organizations: OwnOrganization[];
  status: StatusView | undefined;
}) {
  const teamspace = status?.teamspace ?? null;
  const here = organizations.find((one) => one.id === teamspace?.organization_id);
  const [organization, setOrganization] = useState(here?.id ?? organizations[0]?.id ?? "");
  const [space, setSpace] = useState<string | null>(null);
  const spaces = useSpaces(organization);
  const changed = useMachineChanged();
  const name = spaces.data?.find((one) => one.id === space)?.name ?? "";
  const connect = useMutation({
    mutationFn: (id: string) => localConsole.selectTeamspace(organization, id),
    onSuccess: async (now) => {
      said(
        now === undefined
          ? `${name} is selected; the agent goes there when it starts`
          : `This machine goes to ${name}`,
      );
      setSpace(null);
      await changed();
    },
  });
  return (
    <Section
      title={
        status === undefined
          ? "Select a Teamspace"
          : teamspace === null
            ? "Connect to a Teamspace"
            : "Connect to another Teamspace"
      }
      about={
        status === undefined
          ? "The agent goes there when it is started."
          : teamspace === null
            ? "One at a time. Other machines of yours stay where they are."
            : "What this machine consumes and serves in the present one ends. Other machines of yours stay where they are."
      }
    >
      <Shown query={spaces} rows={1}>
        {(all) => {
          const others = all.filter(
            (one) => one.state !== "removed" && one.certified_at !== null && one.id !== teamspace?.id,
          );
          return (
            <Stack gap="sm">
              {organizations.length > 1 && (
                <Select
                  label="Organization"
                  data={organizations.map((one) => ({ value: one.id, label: one.name }))}
                  value={organization}
                  allowDeselect={false}
                  onChange={(value) => {
                    setOrganization(value ?? "");
                    setSpace(null);
                  }}
                />
              )}
              {others.length === 0 ? (
                <Text size="sm">
                  {teamspace === null
                    ? "There is no Teamspace yet that a cluster has joined."
                    : "There is no other one that a cluster has joined."}
                </Text>
              ) : (
                <Group align="flex-end" gap="sm" wrap="nowrap">
                  <Select
                    label="Teamspace"
                    placeholder="Choose one"
                    flex={1}
                    data={others.map((one) => ({
                      value: one.id,
                      label: one.state === "suspended" ? `${one.name} (suspended)` : one.name,
                      disabled: one.state === "suspended",
                    }))}
                    value={space}
                    searchable={others.length > 8}
                    onChange={setSpace}
                  />
                  <Button
                    disabled={space === null}
                    loading={connect.isPending}
                    onClick={() => {
                      if (space !== null) connect.mutate(space);
                    }}
                  >
                    {status === undefined ? "Select" : "Connect"}
                  </Button>
                </Group>
              )}
              {connect.error !== null && <ProblemAlert error={connect.error} />}
            </Stack>
          );
        }}
      </Shown>
    </Section>
  );
}

function NotSignedIn({ status }: { status: StatusView | undefined }) {
  const { problem } = useSession();
  const { hub } = where();
  const isSignedOut = problem === null || problem.status === 401;
  return (
    <Section title="Hub">
      {isSignedOut ? (
        <Alert color="blue" icon={<IconLogin aria-hidden />} p="sm">
          <Text size="sm">
            This machine is not signed in to a Hub.
            {status?.teamspace === null || status === undefined
              ? " Signed in, it may choose a Teamspace here."
              : " What it is connected to goes on until its certificate ends."}
          </Text>
        </Alert>
      ) : (
        <ProblemAlert error={problem} title="The Hub was not asked" />
      )}
      <Command>
        {hub === null ? "czctl auth login --hub https://hub.example.org" : `czctl auth login --hub ${hub}`}
      </Command>
      <Text size="sm">
        This page goes on by itself then. Without a Hub, an access file leads into a Teamspace:
      </Text>
      <Command>{"czctl start --teamspace shop.json"}</Command>
    </Section>
  );
}
