import {
  ActionIcon,
  Alert,
  Anchor,
  Avatar,
  Badge,
  Box,
  Button,
  Code,
  Group,
  Modal,
  Skeleton,
  Stack,
  Text,
  Textarea,
  Title,
  Tooltip,
  type MantineColor,
} from "@mantine/core";
import { useClipboard, useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import {
  IconAlertCircle,
  IconAlertTriangle,
  IconCheck,
  IconCopy,
  IconPlugConnectedX,
} from "@tabler/icons-react";
import { useEffect, useRef, useState, type ReactNode } from "react";

import { asProblem } from "../api/problem";

/** The head of each page: what it is, and what can be done here. Sets the title of the window. */
export function PageHead({
  title,
  about,
  children,
}: {
  title: string;
  about?: ReactNode;
  children?: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Codezero`;
  }, [title]);
  return (
    <Group justify="space-between" align="flex-start" mb="lg" gap="md">
      <Box miw={0} flex="1 1 280px">
        <Title order={1}>
          <bdi>{title}</bdi>
        </Title>
        {about !== undefined && (
          <Text c="dimmed" size="sm" mt={4} maw={720}>
            {about}
          </Text>
        )}
      </Box>
      {children !== undefined && (
        <Group gap="sm" mih={31}>
          {children}
        </Group>
      )}
    </Group>
  );
}

/** A refusal or failure, with its code and the next step. */
export function ProblemAlert({
  error,
  title,
  again,
}: {
  error: unknown;
  title?: string;
  again?: () => void;
}) {
  const problem = asProblem(error);
  return (
    <Alert color="red" icon={<IconAlertCircle aria-hidden />} title={title ?? problem.title} role="alert">
      <Stack gap={6}>
        <Text size="sm">{problem.detail}</Text>
        {problem.fix !== undefined && <Text size="sm">{problem.fix}</Text>}
        <Group justify="space-between">
          <Text size="xs" ff="monospace">
            {problem.code}
          </Text>
          {again !== undefined && (
            <Button size="xs" variant="default" onClick={again}>
              Try again
            </Button>
          )}
        </Group>
      </Stack>
    </Alert>
  );
}

/** Say that something was done. */
export function said(message: string): void {
  notifications.show({ message, icon: <IconCheck size={16} aria-hidden />, color: "teal" });
}

/** Say that something was refused or failed, with its code and the next step. */
export function refused(error: unknown): void {
  const problem = asProblem(error);
  notifications.show({
    color: "red",
    title: problem.detail,
    message: `${problem.fix === undefined ? "" : `${problem.fix} `}[${problem.code}]`,
    autoClose: 10_000,
  });
}

/** Where there is nothing yet: why, and what to do about it. */
export function Nothing({
  title,
  children,
  action,
}: {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}) {
  return (
    <Stack align="center" gap="xs" py={64} px="md">
      <Title order={2}>{title}</Title>
      {children !== undefined && (
        <Text c="dimmed" size="sm" ta="center" maw={520} component="div">
          {children}
        </Text>
      )}
      {action !== undefined && <Box mt="sm">{action}</Box>}
    </Stack>
  );
}

/** While something is read for the first time. */
export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <Stack gap="sm" aria-busy="true" aria-label="Loading" role="status">
      {Array.from({ length: rows }, (_, number) => (
        <Skeleton key={number} height={36} />
      ))}
    </Stack>
  );
}

interface Asked<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
}

/**
 * What was asked for, or that it is on its way, or why it is not there. What was there before a failure stays, with the failure above it.
 */
export function Shown<T>({
  query,
  rows,
  children,
}: {
  query: Asked<T>;
  rows?: number;
  children: (data: T) => ReactNode;
}) {
  if (query.data === undefined) {
    if (query.isPending) return <Loading rows={rows ?? 6} />;
    return <ProblemAlert error={query.error} again={() => void query.refetch()} />;
  }
  return (
    <Stack gap="md">
      {query.error !== null && (
        <ProblemAlert error={query.error} again={() => void query.refetch()} title="Not read anew" />
      )}
      {children(query.data)}
    </Stack>
  );
}

/** A button that copies a text and says that it did. */
export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const clipboard = useClipboard({ timeout: 1500 });
  return (
    <Tooltip label={clipboard.copied ? "Copied" : label}>
      <ActionIcon
        variant="subtle"
        color={clipboard.copied ? "teal" : "gray"}
        aria-label={clipboard.copied ? "Copied" : label}
        onClick={() => {
          clipboard.copy(text);
        }}
      >
        {clipboard.copied ? <IconCheck size={16} aria-hidden /> : <IconCopy size={16} aria-hidden />}
      </ActionIcon>
    </Tooltip>
  );
}

/** A command to type elsewhere, with a button that copies it. */
export function Command({ children, label }: { children: string; label?: string }) {
  return (
    <Group gap="xs" wrap="nowrap" align="flex-start">
      <Code block flex={1} miw={0} style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }} tabIndex={0}>
        {children}
      </Code>
      <Box pt={5}>
        <CopyButton text={children} label={label ?? "Copy the command"} />
      </Box>
    </Group>
  );
}

const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
// With its time zone, which need not be that of whoever reads a picture of the page.
const exact = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "long" });

/** A moment as people say it, the exact one beside it. Takes seconds of UNIX time, or a text (RFC 3339). */
export function When({ at }: { at: number | string | null | undefined }) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = window.setInterval(() => {
      setNow(Date.now());
    }, 20_000);
    return () => {
      window.clearInterval(timer);
    };
  }, []);
  if (at === null || at === undefined)
    return (
      <Text span c="dimmed" inherit>
        never
      </Text>
    );
  const moment = typeof at === "string" ? Date.parse(at) : at * 1000;
  // What a Teamspace tells may be no moment that there is.
  if (Number.isNaN(new Date(moment).getTime()))
    return (
      <Text span c="dimmed">
        unknown
      </Text>
    );
  const seconds = Math.round((moment - now) / 1000);
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  const words =
    Math.abs(seconds) < 45
      ? seconds > 0
        ? "in a moment"
        : "just now"
      : relative.format(Math.round(seconds / length), unit);
  return (
    <Tooltip label={exact.format(moment)}>
      <time dateTime={new Date(moment).toISOString()}>{words}</time>
    </Tooltip>
  );
}

/** A person: initials in a colour of their own, and the name. `away` marks somebody whose laptop is silent. */
export function Person({
  name,
  id,
  away = false,
  size = 24,
  hideName = false,
}: {
  name: string;
  id: string;
  away?: boolean;
  size?: number;
  hideName?: boolean;
}) {
  const shown = name === "" ? "Somebody" : name;
  return (
    <Group gap={8} wrap="nowrap" miw={0} {...(hideName ? { style: { flexShrink: 0 } } : {})}>
      <Tooltip label={`${shown}${away ? ", away" : ""}`} disabled={!hideName && !away}>
        <Box pos="relative">
          <Avatar
            variant="filled"
            name={shown}
            size={size}
            color={colourOf(id)}
            alt={hideName ? `${shown}${away ? ", away" : ""}` : ""}
            aria-hidden={hideName ? undefined : true}
          />
          {away && (
            <IconAlertTriangle
              size={12}
              aria-label="away"
              color="var(--mantine-color-orange-6)"
              style={{ position: "absolute", right: -3, bottom: -3 }}
            />
          )}
        </Box>
      </Tooltip>
      {!hideName && (
        <Text size="sm" truncate title={shown}>
          <bdi>{shown}</bdi>
        </Text>
      )}
    </Group>
  );
}

// Each with at least 4.5:1 under white initials.
const COLOURS: readonly MantineColor[] = [
  "sea.7",
  "teal.9",
  "grape.9",
  "indigo.9",
  "cyan.9",
  "pink.9",
  "gray.8",
  "violet.9",
];

/** The colour of a person, by which they are known again. */
export function colourOf(id: string): MantineColor {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 9973;
  return COLOURS[sum % COLOURS.length] ?? "sea.7";
}

/** A state in a word: never by colour alone. */
export function State({ children, tone }: { children: string; tone: "good" | "busy" | "bad" | "quiet" }) {
  const colours = { good: "teal.9", busy: "yellow.9", bad: "red.9", quiet: "gray.7" } as const;
  return (
    <Badge variant="dot" color={colours[tone].split(".")[0] ?? "gray"} radius="sm" tt="none" fw={500}>
      {children}
    </Badge>
  );
}

/** Says that what is shown may be old, and since when (seconds of UNIX time). */
export function Stale({ since, children }: { since: number | null | undefined; children?: ReactNode }) {
  if (since === null || since === undefined) return null;
  return (
    <Alert color="yellow" icon={<IconPlugConnectedX aria-hidden />} p="xs" role="status">
      <Text size="sm">
        {children ?? "This may be old: the Teamspace has not seen its cluster"} since <When at={since} />.
      </Text>
    </Alert>
  );
}

/**
 * A button that asks before it does what cannot be taken back. With `reason` whoever it concerns is told why; with `type` a person types that word first.
 */
export function AskFirst({
  label,
  title,
  children,
  action,
  onDone,
  reason = false,
  type,
  variant = "default",
  size = "sm",
  color = "red",
  disabled = false,
}: {
  label: string;
  title: string;
  children: ReactNode;
  action: (reason: string) => Promise<unknown>;
  onDone?: () => void;
  reason?: boolean;
  type?: string;
  variant?: string;
  size?: string;
  color?: MantineColor;
  disabled?: boolean;
}) {
  const [opened, { open, close: hide }] = useDisclosure(false);
  const isClosed = useRef(true);
  const [why, setWhy] = useState("");
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const start = () => {
    // What was begun before is still under way.
    if (!busy) {
      setWhy("");
      setTyped("");
      setError(null);
    }
    isClosed.current = false;
    open();
  };
  const close = () => {
    isClosed.current = true;
    hide();
  };
  const go = async () => {
    setBusy(true);
    setError(null);
    try {
      await action(why.trim());
      close();
      onDone?.();
    } catch (problem) {
      setError(problem);
      // Nobody looks at the dialog any more.
      if (isClosed.current) refused(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <Button variant={variant} size={size} color={color} onClick={start} disabled={disabled}>
        {label}
      </Button>
      <Modal opened={opened} onClose={close} title={title} centered>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void go();
          }}
        >
          <Stack gap="md">
            <Text size="sm" component="div">
              {children}
            </Text>
            {reason && (
              <Textarea
                label="Reason"
                description="Told to whoever it concerns, and kept in the audit."
                value={why}
                maxLength={200}
                autosize
                data-autofocus
                onChange={(event) => {
                  setWhy(event.currentTarget.value);
                }}
              />
            )}
            {type !== undefined && (
              <Textarea
                label={`Type ${type} to go on`}
                value={typed}
                rows={1}
                data-autofocus
                onChange={(event) => {
                  setTyped(event.currentTarget.value);
                }}
              />
            )}
            {error !== null && <ProblemAlert error={error} />}
            <Group justify="flex-end">
              <Button variant="default" onClick={close}>
                Cancel
              </Button>
              <Button
                type="submit"
                // Red as it is bears no white text (WCAG 2.2, 1.4.3).
                color={color === "red" ? "red.9" : color}
                loading={busy}
                disabled={type !== undefined && typed.trim() !== type.trim()}
              >
                {label}
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </>
  );
}

/** A link to documentation or another origin: opens elsewhere and tells nothing of this page. */
export function Outside({ href, children }: { href: string; children: ReactNode }) {
  return (
    <Anchor href={href} target="_blank" rel="noreferrer noopener" underline="always">
      {children}
    </Anchor>
  );
}
