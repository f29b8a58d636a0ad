import { Box, Group, Stack, Text } from "@mantine/core";
import type { ReactNode } from "react";

import classes from "./Deed.module.css";

/** Things that can be done, below each other. */
export function Deeds({ children }: { children: ReactNode }) {
  return (
    <Stack gap={0} className={classes.deeds ?? ""}>
      {children}
    </Stack>
  );
}

/** One of them: what it is, what it means for whom, and its button. */
export function Deed({ title, about, children }: { title: string; about: ReactNode; children: ReactNode }) {
  return (
    <Group justify="space-between" wrap="nowrap" gap="lg" className={classes.deed ?? ""}>
      <Box miw={0}>
        <Text size="sm" fw={500}>
          {title}
        </Text>
        <Text size="sm" component="div">
          {about}
        </Text>
      </Box>
      <Box style={{ flexShrink: 0 }}>{children}</Box>
    </Group>
  );
}
