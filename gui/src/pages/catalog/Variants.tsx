import { Box, Button, Group, Paper, Stack, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";

import { agent } from "../../api/agent";
import type { ServedVariant, Service, VariantView } from "../../api/agent.generated";
import { hub } from "../../api/hub";
import { Problem } from "../../api/problem";
import { AskFirst, Command, Person, said, State, When } from "../../parts";
import { useAgent } from "../../session/agent";
import { useMay, useSession } from "../../session/session";
import { conditionInWords } from "../../space/conditions";
import { refOf } from "../../space/services";
import { useSource } from "../../space/source";
import classes from "./Catalog.module.css";
import { useServes } from "./consuming";
import { HowToAsk } from "./HowToAsk";
import type { Beginning } from "./serveForm";

/** Who answers requests of a service in place of its own pods, in the order in which they are asked. */
export function Variants({
  service,
  hasAgent,
  onServe,
}: {
  service: Service;
  hasAgent: boolean;
  onServe: (from: Beginning) => void;
}) {
  const { mayAct } = useAgent();
  const served = useServes(hasAgent).data?.serves ?? [];
  const serving = service.serving;
  const variants = serving?.variants ?? [];
  return (
    <Stack gap="sm">
      {serving !== null && serving.state !== "active" && (
        <Text size="sm">
          Serving is {serving.state}
          {serving.detail !== "" && (
            <>
              : <bdi>{serving.detail}</bdi>
            </>
          )}
        </Text>
      )}
      {variants.length === 0 ? (
        <Text size="sm" c="dimmed">
          Nobody serves it: every request goes to its own pods.
        </Text>
      ) : (
        <Text size="sm" c="dimmed">
          The first whose condition a request meets answers it; else the service&apos;s own pods do.
        </Text>
      )}
      {variants.map((variant) => (
        <OneVariant
          key={variant.variant_id}
          service={service}
          variant={variant}
          here={served.find((one) => one.variant.variant_id === variant.variant_id)}
          acts={hasAgent && mayAct}
          onServe={onServe}
        />
      ))}
    </Stack>
  );
}

const TONES = { active: "good", pending: "busy", away: "busy" } as const;
const STATES: Record<VariantView["state"], string> = {
  active: "Active",
  pending: "Pending",
  away: "Away, own pods answer",
};

function OneVariant({
  service,
  variant,
  here,
  acts,
  onServe,
}: {
  service: Service;
  variant: VariantView;
  here: ServedVariant | undefined;
  acts: boolean;
  onServe: (from: Beginning) => void;
}) {
  const { me } = useSession();
  const { status } = useAgent();
  const isOwn =
    here !== undefined || variant.user === me?.user.id || variant.user === status?.teamspace?.user_id;
  const isMirror = variant.mirror !== null;
  const isOfUser = variant.condition.length === 0 || variant.condition.some((part) => part.kind === "user");
  return (
    <Paper withBorder p="md" component="article" aria-label={`Variant of ${variant.user_name}`}>
      <Stack gap="sm">
        <Group justify="space-between" wrap="nowrap">
          <Person name={variant.user_name} id={variant.user} away={variant.state === "away"} />
          <State tone={TONES[variant.state]}>{STATES[variant.state]}</State>
        </Group>
        <dl className={classes.facts}>
          <dt>{isMirror ? "Gets copies of" : "Answers"}</dt>
          <dd>
            <bdi>{conditionInWords(variant.condition)}</bdi>
            {isOfUser && (
              <>
                , with the user id of <bdi>{variant.user_name}</bdi>
              </>
            )}
            {variant.condition.some((part) => part.kind === "default") && ": every request"}
            {isMirror &&
              (variant.mirror === "safe" ? ", of methods that change nothing" : ", of every method")}
          </dd>
          <dt>Ports</dt>
          <dd>
            {variant.ports.map((pair) => (
              <bdi key={pair.remote} className={classes.line}>
                {pair.remote} goes to{" "}
                {pair.host === null
                  ? `port ${String(pair.local)}`
                  : `port ${String(pair.local)} of ${pair.host}`}
                {pair.host === null && (isOwn ? " of your laptop" : " of their laptop")}
              </bdi>
            ))}
          </dd>
          <dt>Expires</dt>
          <dd>
            <When at={variant.expires} />
          </dd>
          {here !== undefined && (
            <>
              <dt>On this machine</dt>
              <dd>
                {here.requests.toLocaleString("en")} {here.requests === 1 ? "request" : "requests"} came
                {here.failed > 0 && `, ${here.failed.toLocaleString("en")} found nobody at the port`}
                {here.detail !== "" && (
                  <>
                    ; <bdi>{here.detail}</bdi>
                  </>
                )}
              </dd>
            </>
          )}
        </dl>
        {!isMirror && <HowToAsk service={service} variant={variant} curl={here?.curl ?? undefined} />}
        <Group gap="xs">
          {isOwn ? (
            <End service={service} variant={variant} acts={acts} />
          ) : (
            <Terminate service={service} variant={variant} acts={acts} />
          )}
          {acts && !isOwn && !isMirror && !isOfUser && (
            <Button
              size="xs"
              variant="default"
              onClick={() => {
                onServe({ condition: variant.condition, ports: variant.ports, takeover: true });
              }}
            >
              Take over…
            </Button>
          )}
        </Group>
      </Stack>
    </Paper>
  );
}

function useEnded(): () => void {
  const client = useQueryClient();
  const source = useSource();
  return () => {
    void client.invalidateQueries({ queryKey: ["agent"] });
    if (source.kind === "hub")
      void client.invalidateQueries({ queryKey: ["hub", source.organization, "picture", source.space] });
  };
}

interface Ending {
  service: Service;
  variant: VariantView;
  /** Whether the agent of this machine does it for this page. */
  acts: boolean;
}

function useEndings({ service, variant }: Ending) {
  const source = useSource();
  return {
    byAgent: (reason: string) =>
      agent.endServe({ service: refOf(service.ref), variants: [variant.variant_id], reason }),
    byHub: async (reason: string) => {
      if (source.kind !== "hub") return;
      await hub.DELETE("/api/v1/organizations/{organization}/spaces/{space}/serves/{serve}", {
        params: {
          path: { organization: source.organization, space: source.space, serve: variant.variant_id },
        },
        body: { reason },
      });
    },
  };
}

/** One's own variant. */
function End(ending: Ending) {
  const { service, variant, acts } = ending;
  const ended = useEnded();
  const { byAgent, byHub } = useEndings(ending);
  const mayAtHub = useMay()("sessions.end");
  if (!acts && !mayAtHub)
    return (
      <Box flex={1}>
        <Text size="sm" mb={4}>
          This is yours. It ends by itself, or from your machine:
        </Text>
        <Command>{`czctl serve end ${refOf(service.ref)}`}</Command>
      </Box>
    );
  return (
    <AskFirst
      size="xs"
      label="End"
      title="End this variant of yours?"
      action={() => (acts ? byAgent("") : byHub(""))}
      onDone={() => {
        ended();
        said(`Your variant of ${refOf(service.ref)} ends`);
      }}
    >
      What it answers (<bdi>{conditionInWords(variant.condition)}</bdi>) goes where it went before.
    </AskFirst>
  );
}

// As czctl says it.
function noReason(name: string): Problem {
  return new Problem({
    status: 422,
    code: "CZ-SERVE-006",
    title: "Bad serve",
    detail: `${name} is to be told why.`,
    fix: "Write what you need it for.",
  });
}

/** Somebody else's variant: whose it is is told why. */
function Terminate(ending: Ending) {
  const { variant, acts } = ending;
  const ended = useEnded();
  const { byAgent, byHub } = useEndings(ending);
  const mayAtHub = useMay()("sessions.end");
  if (!acts && !mayAtHub) return null;
  return (
    <AskFirst
      size="xs"
      label="Terminate"
      title={`End the variant of ${variant.user_name}?`}
      reason
      action={async (reason) => {
        if (reason === "") throw noReason(variant.user_name);
        await (mayAtHub ? byHub(reason) : byAgent(reason));
      }}
      onDone={() => {
        ended();
        said(`The variant of ${variant.user_name} ends`);
      }}
    >
      Requests that <bdi>{variant.user_name}</bdi> answers now (
      <bdi>{conditionInWords(variant.condition)}</bdi>) go to the service&apos;s own pods or to the next
      variant.
    </AskFirst>
  );
}
