import { Button, Group, Stack, Text } from "@mantine/core";
import { IconPlayerPlay } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";

import { localConsole } from "../../api/agent";
import { asProblem, type Problem } from "../../api/problem";
import { Command, ProblemAlert, said } from "../../parts";
import { Section } from "../../parts/Section";
import { useAgent } from "../../session/agent";
import { useMachineChanged } from "./queries";
import { isOfConsole } from "./words";

const NOT_RUNNING = "CZ-AGENT-001";
const NEEDS_ROOT = "CZ-AGENT-005";

/** There is no agent that answers: why, and how to start it. */
export function NoAgent({ problem }: { problem: Problem }) {
  const changed = useMachineChanged();
  const { channel } = useAgent();
  const start = useMutation({
    mutationFn: localConsole.startAgent,
    onSuccess: async () => {
      said("The agent is started");
      await changed();
    },
  });
  if (channel === "console" && isOfConsole(problem)) return <NoConsole problem={problem} />;
  if (problem.code !== NOT_RUNNING)
    return (
      <Stack gap="md" maw={760}>
        <ProblemAlert error={problem} again={() => void changed()} />
        {problem.status >= 500 && (
          <>
            <Text size="sm">
              Where that does not help, this puts the machine back as it was, and starts anew:
            </Text>
            <Command>{"czctl cleanup"}</Command>
            <Command>{"czctl start"}</Command>
          </>
        )}
      </Stack>
    );
  if (channel !== "console")
    return (
      <Section
        title="The agent is not running"
        about="It connects the machine with a Teamspace. It needs root, so it is started in a terminal there, and not by a page:"
      >
        <Command>{"czctl start"}</Command>
      </Section>
    );
  const refused = start.error === null ? null : asProblem(start.error);
  return (
    <Stack maw={760}>
      <Section
        title="The agent is not running"
        about="It connects this machine with a Teamspace. Without it nothing is consumed or served here, and the machine is as it was."
      >
        <Group>
          <Button
            leftSection={<IconPlayerPlay size={16} aria-hidden />}
            loading={start.isPending}
            onClick={() => {
              start.mutate();
            }}
          >
            Start the agent
          </Button>
        </Group>
        {refused?.code === NEEDS_ROOT ? (
          <Stack gap="xs" role="alert">
            <Text size="sm">
              It needs root for names, addresses and packet rules, and your password is asked for in a
              terminal alone. There:
            </Text>
            <Command>{"czctl start"}</Command>
            <Text size="sm">Installed as a service of this machine, it starts without a password:</Text>
            <Command>{"sudo czctl daemon install"}</Command>
          </Stack>
        ) : (
          refused !== null && <ProblemAlert error={refused} />
        )}
      </Section>
    </Stack>
  );
}

function NoConsole({ problem }: { problem: Problem }) {
  return (
    <Section
      title={
        problem.status === 0 ? "The local console has ended" : "The local console does not know this page"
      }
      about={
        problem.status === 0
          ? "It runs for as long as its command does. What this machine consumes and serves goes on without it. Open it again:"
          : "It lets in the page that it opened itself, until it ends. Open it again:"
      }
    >
      <Command>{"czctl ui"}</Command>
    </Section>
  );
}
