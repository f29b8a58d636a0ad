import { Alert, Code, Group, Stack, Text } from "@mantine/core";
import { IconAlertCircle, IconAlertTriangle, IconInfoCircle } from "@tabler/icons-react";

import type { HealthWarning } from "../../api/agent.generated";
import { Command } from "../../parts";
import { bySeverity, commandsIn, SEVERITIES } from "./words";

const ICONS = { error: IconAlertCircle, warning: IconAlertTriangle, info: IconInfoCircle };

/** What is not as it should be, most serious first, each with the next step. */
export function Warnings({ warnings }: { warnings: readonly HealthWarning[] }) {
  return (
    <Stack gap="sm" role="region" aria-label="What is not as it should be">
      {bySeverity(warnings).map((one) => (
        <Warning key={one.code + one.text} warning={one} />
      ))}
    </Stack>
  );
}

function Warning({ warning }: { warning: HealthWarning }) {
  const { word, color } = SEVERITIES[warning.severity];
  const IconOf = ICONS[warning.severity];
  const { commands, isAll } = commandsIn(warning.fix ?? "");
  return (
    <Alert color={color} icon={<IconOf aria-hidden />} p="sm">
      <Stack gap={6}>
        <Group gap="xs" align="baseline">
          <Text size="sm" fw={600}>
            {word}
          </Text>
          <Code>{warning.code}</Code>
        </Group>
        <Text size="sm" style={{ overflowWrap: "anywhere" }}>
          <bdi>{warning.text}</bdi>
        </Text>
        {warning.fix !== null && !isAll && (
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            Next: <bdi>{warning.fix}</bdi>
          </Text>
        )}
        {commands.map((command) => (
          <Command key={command}>{command}</Command>
        ))}
      </Stack>
    </Alert>
  );
}
