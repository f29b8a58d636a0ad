import { Alert, Code, Stack, Tabs, Text, TextInput } from "@mantine/core";
import { IconKey } from "@tabler/icons-react";
import { useState } from "react";

import type { Invited } from "../../api/hub.generated";
import { Command, When } from "../../parts";
import {
  HELM_INSTALL,
  HELM_TOKEN,
  helmValues,
  installCommand,
  namespacesOf,
  namespacesProblem,
} from "./joining";
import { useHubVersion } from "./queries";

/** How the cluster is made to join: the token, which is shown this once, and the commands. */
export function InstallSteps({ invited }: { invited: Invited }) {
  const [typed, setTyped] = useState("");
  const version = useHubVersion();
  const problem = namespacesProblem(typed);
  const namespaces = problem === null ? namespacesOf(typed) : [];
  const hubUrl = version.data?.url ?? location.origin;
  return (
    <Stack gap="md">
      <Alert color="yellow" icon={<IconKey aria-hidden />}>
        <Stack gap="xs">
          <Text size="sm" fw={600}>
            The join token is shown this once
          </Text>
          <Command label="Copy the join token">{invited.join_token}</Command>
          <Text size="sm">
            One cluster joins by it, once. It ends <When at={invited.join_expires_at} />. Whoever has it can
            be this Teamspace, so keep it out of command lines and repositories.
          </Text>
        </Stack>
      </Alert>
      <TextInput
        label="Namespaces whose services may be served"
        description="Optional; several by commas, * for all. Without any, members consume, and cannot serve."
        placeholder="shop, billing"
        value={typed}
        error={problem}
        spellCheck={false}
        onChange={(event) => {
          setTyped(event.currentTarget.value);
        }}
      />
      <Tabs defaultValue="czctl" keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="czctl">With czctl</Tabs.Tab>
          <Tabs.Tab value="helm">With Helm</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="czctl" pt="md">
          <Stack gap="sm">
            <Text size="sm">Run this where kubectl knows the cluster; it asks for the token:</Text>
            <Command>{installCommand(invited.install_command, namespaces)}</Command>
          </Stack>
        </Tabs.Panel>
        <Tabs.Panel value="helm" pt="md">
          <Stack gap="sm">
            <Text size="sm">
              Write this into <Code>values.yaml</Code>; the URL letter by letter:
            </Text>
            <Command label="Copy the values">{helmValues(hubUrl, namespaces)}</Command>
            <Text size="sm">
              Put the token into <Code>token.txt</Code>, install, and hand the token over:
            </Text>
            <Command>{HELM_INSTALL}</Command>
            <Command>{HELM_TOKEN}</Command>
          </Stack>
        </Tabs.Panel>
      </Tabs>
    </Stack>
  );
}
