import { Group, Text } from "@mantine/core";

import type { StatusView } from "../../api/agent.generated";
import { CopyButton, State, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import { Section } from "../../parts/Section";
import {
  captureInWords,
  connectionOf,
  count,
  HUB_STATES,
  namesInWords,
  sizeInWords,
  spanInWords,
} from "./words";

// A tunnel says that it lives each few seconds.
const SILENT_SECONDS = 10;

/** Where this machine is connected to, and how that fares. */
export function Connection({ status }: { status: StatusView }) {
  const { teamspace, tunnel } = status;
  if (teamspace === null) return null;
  const { word, tone } = connectionOf(status);
  return (
    <Section title="Connection" action={<State tone={tone}>{word}</State>}>
      <Facts
        facts={[
          [
            "Teamspace",
            <>
              <b>
                <bdi>{teamspace.name}</bdi>
              </b>
              , of <bdi>{teamspace.organization}</bdi>
            </>,
          ],
          ["As", <bdi key="as">{teamspace.user}</bdi>],
          [
            "Address",
            <Group key="address" gap={4} wrap="nowrap">
              <Text size="sm" ff="monospace" style={{ overflowWrap: "anywhere" }}>
                {teamspace.address}
              </Text>
              <CopyButton text={teamspace.address} label="Copy the address" />
            </Group>,
          ],
          ...(tunnel.state === "connected"
            ? ([
                ["Since", <When key="since" at={tunnel.since} />],
                [
                  "Heard",
                  tunnel.silent_for !== null && tunnel.silent_for > SILENT_SECONDS
                    ? `nothing for ${spanInWords(tunnel.silent_for)}`
                    : "a moment ago",
                ],
                [
                  "Traffic",
                  `${sizeInWords(tunnel.bytes_received)} received, ${sizeInWords(tunnel.bytes_sent)} sent, ${count(tunnel.streams, "stream")} open`,
                ],
              ] as const)
            : ([
                [
                  "Why not",
                  tunnel.cause === null ? "It is on its way." : <bdi key="why">{tunnel.cause}</bdi>,
                ],
                [
                  "Next attempt",
                  tunnel.next_attempt_in === null ? null : `in ${spanInWords(tunnel.next_attempt_in)}`,
                ],
              ] as const)),
          [
            "Reconnects",
            tunnel.reconnects === 0 ? "none since the agent started" : count(tunnel.reconnects, "reconnect"),
          ],
          [
            "Session",
            tunnel.session === null ? null : (
              <Group gap={4} wrap="nowrap">
                <Text size="xs" ff="monospace" truncate title={tunnel.session}>
                  {tunnel.session}
                </Text>
                <CopyButton text={tunnel.session} label="Copy the session id" />
              </Group>
            ),
          ],
          [
            "Catalog",
            status.orchestrator.stale_since === null ? (
              status.orchestrator.connected ? (
                `${count(status.orchestrator.services, "service")}, current`
              ) : (
                "not there yet"
              )
            ) : (
              <>
                {count(status.orchestrator.services, "service")}; may be old, since{" "}
                <When at={status.orchestrator.stale_since} />
              </>
            ),
          ],
        ]}
      />
    </Section>
  );
}

/** What the agent has set up on this machine, and the Hub as the agent finds it. */
export function SetUp({ status }: { status: StatusView }) {
  const { host, hub } = status;
  return (
    <Section title="This machine">
      <Facts
        facts={[
          ["Capture", captureInWords(host)],
          ["Names", namesInWords(host)],
          [
            "DNS",
            host.dns === null ? null : (
              <Text key="dns" size="sm" ff="monospace">
                {host.dns}
              </Text>
            ),
          ],
          [
            "Hub",
            hub === null ? (
              status.teamspace !== null && "none: the access comes from a file"
            ) : (
              <>
                <Group gap="xs">
                  <Text size="sm" style={{ overflowWrap: "anywhere" }}>
                    {hub.url}
                  </Text>
                  <State tone={HUB_STATES[hub.state].tone}>{HUB_STATES[hub.state].word}</State>
                </Group>
                {hub.cause !== null && (
                  <Text size="xs">
                    <bdi>{hub.cause}</bdi>
                  </Text>
                )}
              </>
            ),
          ],
          [
            "Certificate",
            hub?.certificate_until === null || hub?.certificate_until === undefined ? null : (
              <>
                ends <When at={hub.certificate_until} />; renewed before that by itself
              </>
            ),
          ],
          [
            "Agent",
            `release ${status.release}, process ${String(status.pid)}${status.supervised ? ", supervised" : ""}`,
          ],
          ["Started", <When key="started" at={status.started} />],
        ]}
      />
    </Section>
  );
}
