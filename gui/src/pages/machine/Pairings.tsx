import { Group, Table, Text, VisuallyHidden } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";

import { agent } from "../../api/agent";
import type { PairingView } from "../../api/agent.generated";
import { look, useChannel } from "../../channel/channel";
import { AskFirst, said, Shown, When } from "../../parts";
import { Mark } from "../../parts/Mark";
import { Section } from "../../parts/Section";
import { useAgent } from "../../session/agent";

/** The browsers that are paired with the machine. */
export function Pairings() {
  const query = useQuery({ queryKey: ["agent", "pairings"], queryFn: agent.pairings });
  return (
    <Section
      title="Paired browsers"
      about="Whose pages of this Hub may ask the machine. Each has a key of its own."
    >
      <Shown query={query} rows={1}>
        {({ pairings }) => (
          <Table.ScrollContainer minWidth={520} type="native">
            <Table horizontalSpacing={0}>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Browser</Table.Th>
                  <Table.Th w={130}>May</Table.Th>
                  <Table.Th w={130}>Last used</Table.Th>
                  <Table.Th w={130}>Ends</Table.Th>
                  <Table.Th w={100}>
                    <VisuallyHidden>Actions</VisuallyHidden>
                  </Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {pairings.map((one) => (
                  <Row key={one.id} pairing={one} />
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
      </Shown>
    </Section>
  );
}

function Row({ pairing }: { pairing: PairingView }) {
  const channel = useChannel();
  const isThis = "pairing" in channel && channel.pairing.id === pairing.id;
  return (
    <Table.Tr>
      <Table.Td>
        <Group gap="xs" wrap="nowrap">
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            <bdi>{pairing.name}</bdi>
          </Text>
          {isThis && <Mark>This one</Mark>}
        </Group>
      </Table.Td>
      <Table.Td>{pairing.acts ? "look and change" : "look"}</Table.Td>
      <Table.Td>
        <When at={pairing.used_at} />
      </Table.Td>
      <Table.Td>
        <When at={pairing.expires_at} />
      </Table.Td>
      <Table.Td ta="right">
        <Revoke pairing={pairing} isThis={isThis} />
      </Table.Td>
    </Table.Tr>
  );
}

function Revoke({ pairing, isThis }: { pairing: PairingView; isThis: boolean }) {
  const client = useQueryClient();
  const { mayAct } = useAgent();
  // This browser's own is forgotten with its key.
  if (isThis || !mayAct) return null;
  return (
    <AskFirst
      label="Revoke"
      size="xs"
      title={`Revoke the pairing of ${pairing.name}?`}
      action={() => agent.revokePairing({ id: pairing.id })}
      onDone={() => {
        said(`The pairing of ${pairing.name} is revoked`);
        void client.invalidateQueries({ queryKey: ["agent", "pairings"] });
        void look();
      }}
    >
      That browser reaches the machine no more, at once. What the machine consumes and serves goes on.
    </AskFirst>
  );
}
