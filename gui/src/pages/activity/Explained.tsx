import { Drawer, Stack, Table, Text, ThemeIcon, Timeline, Title } from "@mantine/core";
import { IconAlertTriangle, IconArrowDown, IconCheck } from "@tabler/icons-react";

import { Facts } from "../../parts/Facts";
import { ServiceLink } from "../../space/links";
import { useLaptops } from "../../space/laptops";
import { useNames } from "../../space/names";
import { useCatalog } from "../../space/source";
import { refOf } from "../../space/services";
import { hopsOf, type Hop } from "./hops";
import { askedIn, serviceOf, type Traced } from "./tracing";

/** One request, explained station by station. */
export function Explained({ traced, onClose }: { traced: Traced | undefined; onClose: () => void }) {
  return (
    <Drawer
      opened={traced !== undefined}
      onClose={onClose}
      position="right"
      size="lg"
      title={<Title order={2}>How it was answered</Title>}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {traced !== undefined && <Hops traced={traced} />}
    </Drawer>
  );
}

const TONES = { good: "teal", bad: "red", quiet: "gray" } as const;

function Mark({ tone }: { tone: Hop["tone"] }) {
  if (tone === "bad") return <IconAlertTriangle size={12} aria-label="Here it went wrong" />;
  return tone === "good" ? <IconCheck size={12} aria-hidden /> : <IconArrowDown size={12} aria-hidden />;
}

function Hops({ traced }: { traced: Traced }) {
  const service = serviceOf(traced);
  const catalog = useCatalog();
  const laptops = useLaptops();
  const nameOf = useNames();
  const hops = hopsOf(traced, {
    service: catalog.data?.items.find((one) => refOf(one.ref) === service),
    nameOf,
    laptopOf: (session) => laptops.data?.items.find((one) => one.session === session)?.name,
  });
  return (
    <Stack gap="lg">
      <Stack gap={4}>
        <Text fw={500} ff="monospace" size="sm" style={{ overflowWrap: "anywhere" }}>
          <bdi>{askedIn(traced)}</bdi>
        </Text>
        <ServiceLink service={service} />
      </Stack>
      <Timeline bulletSize={24} lineWidth={2}>
        {hops.map((hop) => (
          <Timeline.Item
            key={hop.where}
            bullet={
              <ThemeIcon size={22} radius="xl" color={TONES[hop.tone]}>
                <Mark tone={hop.tone} />
              </ThemeIcon>
            }
            title={
              <Text fw={500} size="sm" component="h3" m={0}>
                <bdi>{hop.where}</bdi>
              </Text>
            }
          >
            <Stack gap="xs">
              <Text size="sm" style={{ overflowWrap: "anywhere" }}>
                <bdi>{hop.what}</bdi>
              </Text>
              {hop.facts.length > 0 && (
                <Facts
                  facts={hop.facts.map(([name, value]) => [
                    name,
                    <bdi key={name} style={{ overflowWrap: "anywhere" }}>
                      {value}
                    </bdi>,
                  ])}
                />
              )}
            </Stack>
          </Timeline.Item>
        ))}
      </Timeline>
      {traced.type === "mirror" && traced.mirror.differences.length > 0 && (
        <Table aria-label="What differs" withTableBorder>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>What differs</Table.Th>
              <Table.Th>Origin</Table.Th>
              <Table.Th>Your variant</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {traced.mirror.differences.map((one) => (
              <Table.Tr key={one.what}>
                <Table.Td>
                  <bdi>{one.what}</bdi>
                </Table.Td>
                <Table.Td style={{ overflowWrap: "anywhere" }}>
                  <bdi>{one.origin || "-"}</bdi>
                </Table.Td>
                <Table.Td style={{ overflowWrap: "anywhere" }}>
                  <bdi>{one.variant || "-"}</bdi>
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Stack>
  );
}
