import { Box, Code, Group, Text } from "@mantine/core";
import type { ReactNode } from "react";

import { CopyButton } from ".";
import classes from "./Facts.module.css";

/** What is known of one thing, a line for each: its name and its value. Lines without a value are left out. */
export function Facts({ facts }: { facts: readonly (readonly [name: string, value: ReactNode])[] }) {
  return (
    <Box component="dl" className={classes.facts}>
      {facts
        .filter(([, value]) => value !== null && value !== undefined && value !== false)
        .map(([name, value]) => (
          <Box key={name} className={classes.fact}>
            <Text component="dt" size="sm" className={classes.name}>
              {name}
            </Text>
            <Text component="dd" size="sm" m={0} miw={0} className={classes.value}>
              {value}
            </Text>
          </Box>
        ))}
    </Box>
  );
}

/** A value that people take elsewhere, with a button that copies it. */
export function Copied({ text, label }: { text: string; label: string }) {
  return (
    <Group gap={4} wrap="nowrap">
      <Code style={{ overflowWrap: "anywhere" }}>{text}</Code>
      <CopyButton text={text} label={label} />
    </Group>
  );
}
