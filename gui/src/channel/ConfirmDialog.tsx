import { Button, Group, Loader, Modal, Stack, Text } from "@mantine/core";

import type { Problem } from "../api/problem";
import { Command } from "../parts";
import { useChannel } from "./channel";
import { useWaiting } from "./confirming";

const COMMAND = /^czctl confirm(?: [0-9a-z]+)?$/;

function commandOf({ fix = "" }: Problem): string {
  return COMMAND.test(fix) ? fix : "czctl confirm";
}

/** What is asked, as the machine says it. */
function deedOf({ detail }: Problem): string {
  const said = detail.replace(/^to be confirmed on the machine: /, "");
  return said.charAt(0).toUpperCase() + said.slice(1);
}

/** What waits to be confirmed on the machine, above everything else. */
export function ConfirmDialog() {
  const waiting = useWaiting();
  const channel = useChannel();
  const name = "pairing" in channel ? channel.pairing.name : "the machine";
  return (
    <Modal
      opened={waiting !== undefined}
      onClose={() => waiting?.cancel()}
      title="Confirm it on the machine"
      centered
      zIndex={500}
      // Escape is heard by `confirming`.
      closeOnEscape={false}
      closeOnClickOutside={false}
      closeButtonProps={{ "aria-label": "Cancel and close" }}
    >
      {waiting !== undefined && (
        <Stack gap="md">
          <Text size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
            <bdi>{deedOf(waiting.problem)}</bdi>
          </Text>
          <Text size="sm">
            A page alone is not enough for this: somebody at <bdi>{name}</bdi> has to agree, so that no page
            does it unasked.
          </Text>
          <Text size="sm">In a terminal there, this shows what is asked, and asks you:</Text>
          <Command>{commandOf(waiting.problem)}</Command>
          <Group justify="space-between">
            <Group gap="xs" role="status">
              <Loader size="xs" aria-hidden />
              <Text size="sm">Waiting; this page goes on by itself</Text>
            </Group>
            <Button variant="default" data-autofocus onClick={waiting.cancel}>
              Cancel
            </Button>
          </Group>
        </Stack>
      )}
    </Modal>
  );
}
