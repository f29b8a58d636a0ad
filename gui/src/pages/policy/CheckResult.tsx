import { Badge, Group, Loader, Paper, ScrollArea, Stack, Text, Title, UnstyledButton } from "@mantine/core";
import { IconCircleCheck, IconEyeOff } from "@tabler/icons-react";
import { useMemo } from "react";

import type { Checked, Mistake } from "../../api/hub.generated";
import { ProblemAlert } from "../../parts";
import classes from "./CheckResult.module.css";
import { hiddenIn } from "./editing";

const TEST_FAILED = "CZ-POLICY-005";

type GoTo = (line: number, column: number) => void;

/** What the Hub says of the document: that it could be put in force, or each mistake with its place. */
export function CheckResult({
  checked,
  error,
  again,
  isCurrent,
  isTooLong,
  goTo,
}: {
  checked: Checked | undefined;
  error: unknown;
  again: () => void;
  /** Whether it is about the text as it is now. */
  isCurrent: boolean;
  isTooLong: boolean;
  goTo: GoTo;
}) {
  return (
    <Paper withBorder p="md" component="section" aria-label="Check">
      <Stack gap="sm">
        <Group justify="space-between">
          <Title order={2}>Check</Title>
          {!isCurrent && !isTooLong && error === null && (
            <Group gap={6} role="status">
              <Loader size={12} aria-hidden />
              <Text size="xs" c="dimmed">
                Checking
              </Text>
            </Group>
          )}
        </Group>
        {isTooLong && (
          <Text size="sm">The document is longer than what is looked at: a policy has at most 64 KiB.</Text>
        )}
        {error !== null && !isTooLong && <ProblemAlert error={error} title="Not checked" again={again} />}
        {checked !== undefined && error === null && (
          <Stack gap="sm" opacity={isCurrent ? 1 : 0.75}>
            <Group gap={8} wrap="nowrap" align="flex-start" role="status">
              {checked.valid && (
                <IconCircleCheck
                  size={20}
                  aria-hidden
                  style={{ flex: "none" }}
                  color="light-dark(var(--mantine-color-teal-8), var(--mantine-color-teal-4))"
                />
              )}
              <Text size="sm" fw={500}>
                {inWords(checked)}
              </Text>
            </Group>
            {checked.errors.length > 0 && (
              <ScrollArea.Autosize mah="max(260px, calc(100dvh - 480px))" type="auto" offsetScrollbars>
                <Stack gap={6} component="ol" m={0} p={0} style={{ listStyle: "none" }}>
                  {checked.errors.map((mistake, index) => (
                    <li key={index}>
                      <MistakeButton mistake={mistake} goTo={goTo} />
                    </li>
                  ))}
                </Stack>
              </ScrollArea.Autosize>
            )}
          </Stack>
        )}
      </Stack>
    </Paper>
  );
}

/** As czctl says it. */
function inWords({ valid, errors, tests }: Checked): string {
  if (valid) {
    const told = tests === 1 ? "its only test passes" : `all ${String(tests)} tests pass`;
    return `It could be put in force; ${tests === 0 ? "it has no tests" : told}.`;
  }
  const failed = errors.filter((one) => one.code === TEST_FAILED).length;
  const others = errors.length - failed;
  const parts = [
    ...(others > 0 ? [others === 1 ? "1 mistake" : `${String(others)} mistakes`] : []),
    ...(failed > 0 ? [failed === 1 ? "1 test that fails" : `${String(failed)} tests that fail`] : []),
  ];
  const tried = others > 0 ? " Tests are tried when no mistake is left." : "";
  return `It could not be put in force: ${parts.join(", ")}.${tried}`;
}

function MistakeButton({ mistake, goTo }: { mistake: Mistake; goTo: GoTo }) {
  return (
    <UnstyledButton
      className={classes.mistake}
      onClick={() => {
        goTo(mistake.line, mistake.column);
      }}
    >
      <Group justify="space-between" gap="xs">
        <Text size="xs" fw={600} ff="monospace">
          {mistake.line}:{mistake.column}
        </Text>
        <Badge variant="default" radius="sm" tt="none" fw={500} ff="monospace" size="sm">
          {mistake.code}
        </Badge>
      </Group>
      <Text size="sm" mt={6} className={classes.words}>
        <bdi>{mistake.message}</bdi>
      </Text>
      <Text size="xs" c="dimmed" mt={4} className={classes.words}>
        <bdi>{mistake.fix}</bdi>
      </Text>
    </UnstyledButton>
  );
}

/** Says where the text holds what nobody sees. */
export function HiddenCharacters({ text, goTo }: { text: string; goTo: GoTo }) {
  const found = useMemo(() => hiddenIn(text), [text]);
  if (found.length === 0) return null;
  return (
    <Paper
      withBorder
      p="md"
      component="section"
      aria-label="Characters that nobody sees"
      className={classes.hidden}
    >
      <Stack gap={6}>
        <Group gap="xs" wrap="nowrap" role="status">
          <IconEyeOff size={18} aria-hidden />
          <Text size="sm" fw={500}>
            Characters that nobody sees
          </Text>
        </Group>
        <Text size="sm">They can make a policy read otherwise than it is. Look whether they are meant.</Text>
        <Group gap={6}>
          {found.map(({ line, column, name }) => (
            <UnstyledButton
              key={`${String(line)}:${String(column)}`}
              className={classes.place}
              onClick={() => {
                goTo(line, column);
              }}
            >
              {line}:{column} {name}
            </UnstyledButton>
          ))}
        </Group>
      </Stack>
    </Paper>
  );
}
