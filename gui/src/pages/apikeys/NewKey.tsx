import { List, Stack, Table, Text, Title } from "@mantine/core";

import type { ApiKeyAnswer } from "../../api/hub.generated";
import { where } from "../../api/where";
import { Command, CopyButton, When } from "../../parts";
import { ToldOnce } from "../../parts/ToldOnce";

/** A new key, and how programs take it: never as an argument, which everybody on their machine can read. */
export function NewKey({ made, onDone }: { made: ApiKeyAnswer; onDone: () => void }) {
  const address = where().hub ?? location.origin;
  return (
    <ToldOnce what="This key" value={made.key} copy="Copy the key" onDone={onDone}>
      <Text size="sm">
        Whoever has it is <bdi>{made.name}</bdi>
        {made.expires_at === null ? (
          ", until it is revoked."
        ) : (
          <>
            . It ends <When at={made.expires_at} />.
          </>
        )}
      </Text>
      <Stack gap="xs">
        <Title order={3}>In a CI job</Title>
        <Text size="sm">Put the key into the secrets of your CI system, and these into the job:</Text>
        <Table withTableBorder verticalSpacing={6}>
          <Table.Tbody>
            <Variable name="CODEZERO_HUB" value={address} />
            <Variable name="CODEZERO_API_KEY">the key, from the secrets of your CI system</Variable>
            <Variable name="CODEZERO_SPACE">
              the name or id of the Teamspace, where the organization has several
            </Variable>
          </Table.Tbody>
        </Table>
        <Text size="sm">
          Then <code>czctl start</code> is signed in.
        </Text>
      </Stack>
      <Stack gap="xs">
        <Title order={3}>On a machine that stays</Title>
        <List size="sm" spacing={4}>
          <List.Item>
            Write the key into a file that you alone can read, such as <code>key.txt</code>.
          </List.Item>
          <List.Item>Sign in with the file, then delete it.</List.Item>
        </List>
        <Command>{`czctl auth login --hub ${address} --apikey-file key.txt`}</Command>
      </Stack>
      <Text size="sm">
        A key that leaked is revoked on this page, or by <code>czctl apikey revoke</code>.
      </Text>
    </ToldOnce>
  );
}

function Variable({ name, value, children }: { name: string; value?: string; children?: string }) {
  return (
    <Table.Tr>
      <Table.Th scope="row" ff="monospace" fw={500} fz="xs">
        {name}
      </Table.Th>
      <Table.Td style={{ overflowWrap: "anywhere" }}>
        {value === undefined ? <Text size="sm">{children}</Text> : <code>{value}</code>}
      </Table.Td>
      <Table.Td w={44}>{value !== undefined && <CopyButton text={value} label={`Copy ${name}`} />}</Table.Td>
    </Table.Tr>
  );
}
