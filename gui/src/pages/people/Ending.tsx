import { Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";

import { agent } from "../../api/agent";
import { hub } from "../../api/hub";
import { AskFirst, said } from "../../parts";
import { useAgent, useAgentActs } from "../../session/agent";
import { useMay } from "../../session/session";
import type { Laptop, Served } from "../../space/laptops";
import { useSource } from "../../space/source";
import { answersInWords } from "../../space/wording";

/** End a session at the Hub; not offered to who may not. */
export function EndSession({ laptop, name }: { laptop: Laptop; name: string }) {
  const source = useSource();
  const may = useMay();
  if (source.kind !== "hub" || !may("sessions.end")) return null;
  const { organization, space } = source;
  return (
    <AskFirst
      label="End this session"
      title={`End the session of ${name}?`}
      reason
      action={(reason) =>
        hub.DELETE("/api/v1/organizations/{organization}/spaces/{space}/sessions/{session}", {
          params: { path: { organization, space, session: laptop.session } },
          body: { reason },
        })
      }
      onDone={() => {
        said("The session ends within seconds; the laptop may come back unless its device is revoked");
      }}
    >
      All that this laptop consumes and serves ends at once. It may connect again, unless its device is
      revoked.
    </AskFirst>
  );
}

/** End a variant: at the Hub for who may end what others do; by the agent of this machine for its user's own, and for others' where it alone is asked (the policy decides). */
export function EndServe({ served }: { served: Served }) {
  const source = useSource();
  const may = useMay();
  const client = useQueryClient();
  const own = useAgent().status?.teamspace?.user_id;
  const here = useAgentActs(source.kind === "hub" ? source.space : undefined);
  const isOwn = here && own === served.user;
  const byAgent = isOwn || (here && source.kind === "agent");
  if (!byAgent && (source.kind !== "hub" || !may("sessions.end"))) return null;
  const end = async (reason: string) => {
    if (byAgent) {
      await agent.endServe({ service: served.service, variants: [served.id], reason });
      await client.invalidateQueries({ queryKey: ["agent"] });
    } else if (source.kind === "hub") {
      const { organization, space } = source;
      await hub.DELETE("/api/v1/organizations/{organization}/spaces/{space}/serves/{serve}", {
        params: { path: { organization, space, serve: served.id } },
        body: { reason },
      });
    }
  };
  return (
    <AskFirst
      label="End"
      title={`End this variant of ${served.service}?`}
      size="compact-xs"
      reason={!isOwn}
      action={end}
      onDone={() => {
        said(
          byAgent
            ? `The variant of ${served.service} is ended`
            : `The variant of ${served.service} ends within seconds`,
        );
      }}
    >
      <Text size="sm">
        What it answers (<bdi>{answersInWords(served)}</bdi>) goes to whoever else serves that, or else to the
        service&apos;s own pods.
      </Text>
    </AskFirst>
  );
}
