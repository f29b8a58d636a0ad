import { Button, Group, Loader, Modal, Stack, Text } from "@mantine/core";

import type { Problem } from "../api/problem";
import { Command } from "../parts";
import { useChannel } from "./channel";
import { useWaiting, type Waiting } from "./confirming";

const COMMAND = /^czctl confirm(?: [0-9a-z]+)?$/;

function commandOf({ fix = "" }: Problem): string {
  return COMMAND.test(fix) ? fix : "czctl confirm";
}

/** What is asked, as the machine says it. */
function deedOf({ detail }: Problem): string {
  const said = detail.replace(/^to be confirmed on the machine: /, "");
  return said.charAt(0).toUpperCase() + said.slice(1);
}

function stateOf({ trouble, askAgain }: Waiting): string {
  if (askAgain !== undefined) return "No answer within ten minutes.";
  if (trouble !== undefined) return `${trouble.title}; it is asked again by itself`;
  return "Waiting; this page goes on by itself";
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
          {waiting.askAgain === undefined && (
            <>
              <Text size="sm">In a terminal there, this shows what is asked, and asks you:</Text>
              <Command>{commandOf(waiting.problem)}</Command>
            </>
          )}
          <Group justify="space-between">
            <Group gap="xs" role="status" flex={1}>
              {waiting.askAgain === undefined && <Loader size="xs" aria-hidden />}
              <Text size="sm" flex={1}>
                {stateOf(waiting)}
              </Text>
            </Group>
            <Group gap="xs">
              <Button variant="default" data-autofocus onClick={waiting.cancel}>
                Cancel
              </Button>
              {waiting.askAgain !== undefined && <Button onClick={waiting.askAgain}>Ask again</Button>}
            </Group>
          </Group>
        </Stack>
      )}
    </Modal>
  );
}
