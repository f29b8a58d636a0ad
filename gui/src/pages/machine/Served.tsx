import { Divider, Group, Stack, Text } from "@mantine/core";
import { Fragment } from "react";

import { agent } from "../../api/agent";
import type { ServedVariant } from "../../api/agent.generated";
import { AskFirst, Command, said, Shown, State, When } from "../../parts";
import { Section } from "../../parts/Section";
import { useAgent } from "../../session/agent";
import { conditionInWords, pairInWords } from "../../space/conditions";
import { refOf } from "../../space/services";
import { CatalogLink } from "./CatalogLink";
import { useMachineChanged, useServed } from "./queries";
import { count } from "./words";

/** What this machine answers. */
export function Served() {
  const query = useServed();
  return (
    <Section
      title="Served"
      about="Variants: requests to services that this machine answers."
      action={<CatalogLink>Serve from the catalog</CatalogLink>}
    >
      <Shown query={query} rows={2}>
        {({ serves }) =>
          serves.length === 0 ? (
            <Text size="sm">This machine answers no requests now.</Text>
          ) : (
            <Stack gap="md">
              {serves.map((one, number) => (
                <Fragment key={one.variant.variant_id}>
                  {number > 0 && <Divider />}
                  <Variant served={one} />
                </Fragment>
              ))}
            </Stack>
          )
        }
      </Shown>
    </Section>
  );
}

function Variant({ served }: { served: ServedVariant }) {
  const changed = useMachineChanged();
  const { mayAct } = useAgent();
  const { variant } = served;
  const service = refOf(served.service);
  const isMirror = variant.mirror !== null;
  return (
    <Stack gap={6}>
      <Group justify="space-between" wrap="nowrap" align="flex-start">
        <Group gap="sm">
          <Text fw={600} style={{ overflowWrap: "anywhere" }}>
            <bdi>{service}</bdi>
          </Text>
          <VariantState served={served} />
        </Group>
        {mayAct && (
          <AskFirst
            label="End"
            size="xs"
            title={`End serving ${service}?`}
            action={() => agent.endServe({ service, variants: [variant.variant_id] })}
            onDone={() => {
              said(`${service} is not served for that condition any more`);
              void changed();
            }}
          >
            {isMirror
              ? "This machine gets no more copies. Who uses the service notices nothing."
              : "Requests that meet its condition are answered by the service's own pods, or by a variant of somebody else. What is open ends."}
          </AskFirst>
        )}
      </Group>
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        {isMirror ? "Copies of requests with " : "Requests with "}
        <bdi>{conditionInWords(variant.condition)}</bdi>; ports (yours:its){" "}
        {variant.ports.map(pairInWords).join(", ")}
      </Text>
      {served.detail !== "" && (
        <Text size="sm">
          <bdi>{served.detail}</bdi>
        </Text>
      )}
      <Text size="sm">
        {requestsInWords(served)}; ends <When at={variant.expires} />
      </Text>
      {served.curl !== null && <Command>{served.curl}</Command>}
    </Stack>
  );
}

function requestsInWords({ requests, failed }: ServedVariant): string {
  if (requests === 0) return "No request yet";
  const answered = failed === 0 ? "" : `; your program could not be reached for ${String(failed)} of them`;
  return `${count(requests, "request")} so far${answered}`;
}

/** Its own state where its service is well, else the service's. */
function VariantState({ served }: { served: ServedVariant }) {
  if (served.serving !== "active") {
    const words = {
      preparing: "Preparing",
      contested: "Contested",
      restoring: "Ending",
      refused: "Refused",
    } as const;
    return (
      <State tone={served.serving === "preparing" || served.serving === "restoring" ? "busy" : "bad"}>
        {words[served.serving]}
      </State>
    );
  }
  return {
    active: <State tone="good">Active</State>,
    pending: <State tone="busy">Pending</State>,
    away: <State tone="busy">Away</State>,
  }[served.state];
}
