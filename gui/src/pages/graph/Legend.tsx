import { Group, Paper, Text } from "@mantine/core";

import classes from "./Nodes.module.css";

const LINES = [
  { kind: "consumes", words: "consumes" },
  { kind: "serves", words: "served by a variant" },
  { kind: "away", words: "away" },
] as const;

/** What the lines mean. */
export function Legend() {
  return (
    <Paper withBorder px="sm" py={6} aria-label="Legend" component="section">
      <Group gap="md">
        {LINES.map(({ kind, words }) => (
          <Group gap={6} key={kind} wrap="nowrap">
            <span className={classes.line} data-kind={kind} />
            <Text size="xs">{words}</Text>
          </Group>
        ))}
      </Group>
    </Paper>
  );
}
