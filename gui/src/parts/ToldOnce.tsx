import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { IconEyeOff } from "@tabler/icons-react";
import type { ReactNode } from "react";

import { Command } from "./index";

/** The content of a dialog for something that is told once and never again: to copy, with what to do with it. */
export function ToldOnce({
  what,
  value,
  copy,
  children,
  onDone,
}: {
  /** Such as "This key". */
  what: string;
  value: string;
  copy: string;
  children: ReactNode;
  onDone: () => void;
}) {
  return (
    <Stack gap="md">
      <Alert color="yellow" icon={<IconEyeOff aria-hidden />} p="sm">
        <Text size="sm">{what} is shown this once. Copy it before you go on.</Text>
      </Alert>
      <Command label={copy}>{value}</Command>
      {children}
      <Group justify="flex-end">
        <Button onClick={onDone}>I have kept it</Button>
      </Group>
    </Stack>
  );
}
