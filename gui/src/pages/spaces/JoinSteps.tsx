import { Group, Loader, Stack, Text, ThemeIcon } from "@mantine/core";
import { IconCheck, IconCircle } from "@tabler/icons-react";
import { useEffect, useState, type ReactNode } from "react";

import type { Space } from "../../api/hub.generated";
import { Command, CopyButton } from "../../parts";
import { SEE_PODS, SEE_SERVICE, SEE_STATUS } from "./joining";
import { addressOf, progressOf } from "./words";

// Hints come when a thing takes longer than it usually does.
const JOIN_IS_LATE_MS = 120_000;
const REST_IS_LATE_MS = 60_000;

/** How far the cluster is on its way in, as it happens. `before` as in `progressOf`. */
export function JoinSteps({ space, before }: { space: Space; before: string | null }) {
  const progress = progressOf(space, before);
  const done = progress.joined && progress.connected && progress.addressed;
  return (
    <Stack gap="sm">
      <Stack component="ol" gap="sm" p={0} m={0} style={{ listStyle: "none" }} aria-live="polite">
        <Step
          done={progress.joined}
          busy={!progress.joined}
          title={progress.joined ? "The cluster has joined, and is certified" : "Waiting for the cluster"}
          late={JOIN_IS_LATE_MS}
          hint={
            <>
              <Text size="sm">
                See whether its pods run and what they wait for. They have to reach this Hub by HTTPS.
              </Text>
              <Command>{SEE_PODS}</Command>
              <Command>{SEE_STATUS}</Command>
            </>
          }
        >
          {progress.joined && space.fingerprint !== null && (
            <Group gap={4} wrap="nowrap">
              <Text size="xs" ff="monospace" truncate title={space.fingerprint}>
                {space.fingerprint}
              </Text>
              <CopyButton text={space.fingerprint} label="Copy the fingerprint" />
            </Group>
          )}
        </Step>
        <Step
          done={progress.connected}
          busy={progress.joined && !progress.connected}
          title={progress.connected ? "Connected with the Hub" : "Its channel to the Hub"}
          late={REST_IS_LATE_MS}
          hint={
            <>
              <Text size="sm">
                It has joined. On a real cluster its pods see their identity within two minutes.
              </Text>
              <Command>{SEE_STATUS}</Command>
            </>
          }
        />
        <Step
          done={progress.addressed}
          busy={progress.joined && !progress.addressed}
          title={
            progress.addressed
              ? `Laptops reach it at ${addressOf(space.host ?? "", space.port)}`
              : "An address for laptops"
          }
          late={REST_IS_LATE_MS}
          hint={
            <>
              <Text size="sm">
                A load balancer may need five minutes or more. Where the cluster makes none, install again
                with a node port, or with the host that laptops connect to.
              </Text>
              <Command>{SEE_SERVICE}</Command>
              <Command>{"czctl teamspace upgrade --set service.type=NodePort"}</Command>
            </>
          }
        />
      </Stack>
      {done && (
        <Text size="sm" fw={600} role="status">
          It is ready: its members can connect.
        </Text>
      )}
    </Stack>
  );
}

function Step({
  done,
  busy,
  title,
  late,
  hint,
  children,
}: {
  done: boolean;
  busy: boolean;
  title: string;
  late: number;
  hint: ReactNode;
  children?: ReactNode;
}) {
  const isLate = useLate(busy, late);
  return (
    <Group component="li" align="flex-start" wrap="nowrap" gap="sm">
      {done ? (
        <ThemeIcon size={22} radius="xl" color="teal.8" role="img" aria-label="Done">
          <IconCheck size={14} aria-hidden />
        </ThemeIcon>
      ) : busy ? (
        <Loader size={20} m={1} role="img" aria-label="Under way" />
      ) : (
        <ThemeIcon size={22} radius="xl" variant="transparent" color="gray" role="img" aria-label="Not yet">
          <IconCircle size={18} aria-hidden />
        </ThemeIcon>
      )}
      <Stack gap={4} flex={1} miw={0}>
        <Text size="sm" fw={done || busy ? 500 : 400} style={{ overflowWrap: "anywhere" }}>
          {title}
        </Text>
        {children}
        {isLate && !done && hint}
      </Stack>
    </Group>
  );
}

/** Whether something has been under way for longer than `after` milliseconds. */
function useLate(busy: boolean, after: number): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (!busy) return;
    const timer = window.setTimeout(() => {
      setLate(true);
    }, after);
    return () => {
      window.clearTimeout(timer);
      setLate(false);
    };
  }, [busy, after]);
  return late;
}
