import { Alert, Text } from "@mantine/core";
import { IconEye } from "@tabler/icons-react";

import { useAgent } from "../session/agent";

/** Why nothing is offered that changes something on the machine; nothing where it is. */
export function ReadOnly() {
  const { channel, mayAct } = useAgent();
  if (channel === "none" || mayAct) return null;
  return (
    <Alert color="blue" icon={<IconEye aria-hidden />} p="xs">
      <Text size="sm">
        This browser is paired to look, and changes nothing on the machine. Pair it anew for that:{" "}
        <code>czctl pair</code>.
      </Text>
    </Alert>
  );
}
