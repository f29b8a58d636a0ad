import { Group, Paper, Stack, Text, Title } from "@mantine/core";
import { IconCircleCheck, IconCircleX } from "@tabler/icons-react";

import type { May, MayAsked } from "../../api/hub.generated";
import { Command, Loading, ProblemAlert } from "../../parts";
import { commandOf, conditionInWords } from "./questions";
import { usePlace } from "./policies";
import type { Who } from "./who";

/** The answer to a question, in the words of `czctl policy explain`. */
export function Answer({
  who,
  asked,
  answer,
}: {
  who: Who;
  asked: MayAsked;
  answer: { data: May | undefined; error: unknown; isPending: boolean; refetch: () => unknown };
}) {
  const place = usePlace();
  const asWho = who.isOneself ? asked : { ...asked, as: who.handle };
  return (
    <Paper withBorder p="lg" component="section" aria-label="Answer" aria-live="polite">
      <Stack gap="md">
        <Text size="sm" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          May <bdi>{who.name}</bdi> {asked.operation} <bdi>{asked.service}</bdi>
          {conditionInWords(asked) !== "" && (
            <>
              {" "}
              <bdi>{conditionInWords(asked)}</bdi>
            </>
          )}
          ?
        </Text>
        {answer.error !== null ? (
          <ProblemAlert error={answer.error} again={() => void answer.refetch()} />
        ) : answer.data === undefined ? (
          <Loading rows={3} />
        ) : (
          <Told may={answer.data} />
        )}
        <Stack gap={4}>
          <Text size="xs" c="dimmed">
            The same by czctl
            {asked.ports !== undefined && asked.ports.length > 0 ? ", which asks without ports" : ""}:
          </Text>
          <Command>{commandOf(asWho, place)}</Command>
        </Stack>
      </Stack>
    </Paper>
  );
}

function Told({ may }: { may: May }) {
  const Mark = may.allowed ? IconCircleCheck : IconCircleX;
  return (
    <>
      <Group gap="xs" wrap="nowrap">
        <Mark
          size={26}
          aria-hidden
          color={
            may.allowed
              ? "light-dark(var(--mantine-color-teal-8), var(--mantine-color-teal-4))"
              : "light-dark(var(--mantine-color-red-8), var(--mantine-color-red-4))"
          }
        />
        <Title order={2}>{may.allowed ? "Yes" : "No"}</Title>
      </Group>
      <Fact name="Why">{may.reason}</Fact>
      <Fact name="Policies">{may.policies.length === 0 ? "none" : may.policies.join(", ")}</Fact>
      {may.failed.length > 0 && (
        <Fact name="Could not be evaluated, and counted for nothing">{may.failed.join(", ")}</Fact>
      )}
    </>
  );
}

function Fact({ name, children }: { name: string; children: string }) {
  return (
    <div>
      <Text size="xs" c="dimmed">
        {name}
      </Text>
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        <bdi>{children}</bdi>
      </Text>
    </div>
  );
}
