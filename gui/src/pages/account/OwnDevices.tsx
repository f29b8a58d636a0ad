import { Group, Table, Text, VisuallyHidden } from "@mantine/core";

import type { Device } from "../../api/hub.generated";
import { Command, When } from "../../parts";
import { Mark } from "../../parts/Mark";
import { RevokeDevice } from "../../parts/RevokeDevice";
import { useSession } from "../../session/session";

/** One's own machines, those seen last first. */
export function OwnDevices({ devices }: { devices: readonly Device[] }) {
  const { me } = useSession();
  if (devices.length === 0)
    return (
      <>
        <Text size="sm">There is none yet. Sign in at the machine where you work:</Text>
        <Command>czctl auth login</Command>
      </>
    );
  const sorted = [...devices].sort((one, other) => other.last_seen_at.localeCompare(one.last_seen_at));
  return (
    <Table.ScrollContainer minWidth={520} type="native">
      <Table horizontalSpacing={0}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Name</Table.Th>
            <Table.Th w={140}>Last seen</Table.Th>
            <Table.Th w={140}>Since</Table.Th>
            <Table.Th w={100}>
              <VisuallyHidden>Actions</VisuallyHidden>
            </Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {sorted.map((device) => (
            <Table.Tr key={device.id}>
              <Table.Td>
                <Group gap="xs" wrap="nowrap">
                  <Text size="sm" style={{ overflowWrap: "anywhere" }}>
                    <bdi>{device.name}</bdi>
                  </Text>
                  {me?.device?.id === device.id && <Mark>This one</Mark>}
                </Group>
              </Table.Td>
              <Table.Td>
                <When at={device.last_seen_at} />
              </Table.Td>
              <Table.Td>
                <When at={device.created_at} />
              </Table.Td>
              <Table.Td ta="right">
                <RevokeDevice device={device} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
