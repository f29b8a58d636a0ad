import { Badge, Button, Collapse, Group, Paper, Stack, Text, UnstyledButton } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconAlertTriangle, IconChevronDown, IconChevronUp, IconMoon } from "@tabler/icons-react";

import classes from "./Nodes.module.css";
import type { Attention as Item } from "./picture";

const MOST = 50;

/** What is unhealthy, the worst first; each leads to its cause. */
export function Attention({ items, onOpen }: { items: readonly Item[]; onOpen: (node: string) => void }) {
  const [isOpen, { toggle }] = useDisclosure(window.innerWidth >= 1000);
  if (items.length === 0) return null;
  const Chevron = isOpen ? IconChevronUp : IconChevronDown;
  return (
    <Paper withBorder shadow="sm" className={classes.panel} component="section" aria-label="Needs attention">
      <Button
        variant="subtle"
        color="gray"
        fullWidth
        justify="space-between"
        size="sm"
        c="var(--mantine-color-text)"
        aria-expanded={isOpen}
        onClick={toggle}
        rightSection={<Chevron size={16} aria-hidden />}
      >
        <Group gap="xs">
          Needs attention
          <Badge size="sm" color="red.9" variant="filled" radius="sm">
            {items.length}
          </Badge>
        </Group>
      </Button>
      <Collapse expanded={isOpen}>
        <div className={classes.causes}>
          <Stack gap={0} p={4} component="ul" m={0} style={{ listStyle: "none" }}>
            {items.slice(0, MOST).map((item) => (
              <li key={item.node}>
                <UnstyledButton
                  className={classes.cause}
                  onClick={() => {
                    onOpen(item.node);
                  }}
                >
                  <Group gap={8} wrap="nowrap" align="flex-start">
                    {item.tone === "bad" ? (
                      <IconAlertTriangle
                        size={16}
                        color="var(--mantine-color-red-6)"
                        aria-label="Unhealthy"
                        style={{ flex: "none", marginTop: 2 }}
                      />
                    ) : (
                      <IconMoon size={16} aria-label="Away" style={{ flex: "none", marginTop: 2 }} />
                    )}
                    <Stack gap={0} miw={0}>
                      <Text size="sm" fw={600} truncate title={item.name}>
                        <bdi>{item.name}</bdi>
                      </Text>
                      <Text size="sm" style={{ overflowWrap: "anywhere" }} lineClamp={3}>
                        <bdi>{item.words}</bdi>
                      </Text>
                    </Stack>
                  </Group>
                </UnstyledButton>
              </li>
            ))}
          </Stack>
          {items.length > MOST && (
            <Text size="xs" c="dimmed" px="sm" pb="xs">
              and {items.length - MOST} more; filter to see them
            </Text>
          )}
        </div>
      </Collapse>
    </Paper>
  );
}
