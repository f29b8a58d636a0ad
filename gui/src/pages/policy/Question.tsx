import { Autocomplete, Button, Grid, Group, Paper, Select, Stack, Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import { hub, told } from "../../api/hub";
import type { May, MayAsked, Operation } from "../../api/hub.generated";
import { useAddress } from "../../parts/address";
import { useCatalog } from "../../space/source";
import { Answer } from "./Answer";
import { keyOf, usePlace, type Place } from "./policies";
import {
  ALL_OPERATIONS,
  conditionFrom,
  conditionsOf,
  exampleOf,
  isOperation,
  nameOf,
  OPERATIONS,
  portsFrom,
  portsOf,
  whyNoCondition,
  whyNoService,
} from "./questions";
import type { Who } from "./who";

interface Fields {
  operation: Operation;
  service: string;
  kind: string;
  condition: string;
  ports: string;
}

/** Ask the Hub whether somebody may do that. */
export function askMay(place: Place, asked: MayAsked, signal: AbortSignal): Promise<May> {
  return told(
    hub.POST("/api/v1/organizations/{organization}/spaces/{space}/can-i", {
      params: { path: { ...place } },
      body: asked,
      signal,
    }),
  );
}

/** One question about one service, and the answer; it stays right while policies change. */
export function Question({
  who,
  asked,
  onAsk,
}: {
  who: Who;
  asked: MayAsked | null;
  onAsk: (asked: MayAsked | null) => void;
}) {
  const place = usePlace();
  const [address, change] = useAddress();
  const answer = useQuery({
    queryKey: keyOf(place, "can-i", asked),
    enabled: asked !== null,
    queryFn: ({ signal }) => askMay(place, asked ?? { operation: "consume", service: "", ports: [] }, signal),
  });
  const form = useForm<Fields>({
    initialValues: beginning(asked, address.operation, address.service),
    validate: {
      service: whyNoService,
      condition: (text, { operation, kind }) =>
        conditionsOf(operation).length === 0 ? null : whyNoCondition(kind, text),
      ports: (text) => (portsFrom(text) === null ? "Give up to 16 ports, such as 80, 443" : null),
    },
  });
  const { operation, kind } = form.values;
  const kinds = conditionsOf(operation);
  const ask = (fields: Fields) => {
    const question: MayAsked = {
      operation: fields.operation,
      service: fields.service,
      ports: kinds.length === 0 ? [] : (portsFrom(fields.ports) ?? []),
      ...(kinds.length === 0 ? {} : { condition: conditionFrom(fields.kind, fields.condition) }),
      ...(who.isOneself ? {} : { as: who.id }),
    };
    change({ operation: fields.operation, service: fields.service });
    if (JSON.stringify(question) === JSON.stringify(asked)) void answer.refetch();
    else onAsk(question);
  };
  const example = exampleOf(kind);
  return (
    <Grid gap="lg">
      <Grid.Col span={{ base: 12, md: 6 }}>
        <Paper withBorder p="lg" component="section" aria-label="Question">
          <form onSubmit={form.onSubmit(ask)} noValidate>
            <Stack gap="md">
              <Select
                label="Operation"
                description={`Asks ${OPERATIONS[operation]}.`}
                allowDeselect={false}
                data={[...ALL_OPERATIONS]}
                value={operation}
                onChange={(value) => {
                  if (!isOperation(value ?? undefined)) return;
                  const next = value as Operation;
                  const others = conditionsOf(next);
                  form.setFieldValue("operation", next);
                  if (!others.includes(kind)) form.setFieldValue("kind", others[0] ?? "user");
                }}
              />
              <ServiceField
                {...form.getInputProps("service")}
                onPorts={(ports) => {
                  form.setFieldValue("ports", ports.join(", "));
                }}
              />
              {kinds.length > 0 && (
                <>
                  <Group grow align="flex-start">
                    <Select
                      label="Condition"
                      allowDeselect={false}
                      data={[...kinds]}
                      disabled={kinds.length === 1}
                      {...form.getInputProps("kind")}
                    />
                    {example !== undefined && (
                      <TextInput
                        label="Of"
                        placeholder={example}
                        maxLength={1200}
                        {...form.getInputProps("condition")}
                      />
                    )}
                  </Group>
                  <TextInput
                    label="Ports"
                    description="Of the service, those that are served: a policy may look at them."
                    placeholder="80, 443"
                    {...form.getInputProps("ports")}
                  />
                </>
              )}
              <Group>
                <Button type="submit" loading={answer.isFetching}>
                  Ask
                </Button>
              </Group>
            </Stack>
          </form>
        </Paper>
      </Grid.Col>
      <Grid.Col span={{ base: 12, md: 6 }}>
        {asked === null ? (
          <Text size="sm" c="dimmed">
            The answer is what the Teamspace would say at this moment, with the policies that made it.
          </Text>
        ) : (
          <Answer who={who} asked={asked} answer={answer} />
        )}
      </Grid.Col>
    </Grid>
  );
}

function beginning(
  asked: MayAsked | null,
  operation: string | undefined,
  service: string | undefined,
): Fields {
  const begun = asked?.operation ?? (isOperation(operation) ? operation : "consume");
  const key = asked?.condition?.key ?? null;
  const value = asked?.condition?.value ?? "";
  return {
    operation: begun,
    service: asked?.service ?? service ?? "",
    kind: asked?.condition?.type ?? conditionsOf(begun)[0] ?? "user",
    condition: key === null ? value : `${key}:${value}`,
    ports: (asked?.ports ?? []).join(", "),
  };
}

function ServiceField({
  onPorts,
  ...field
}: {
  value?: string;
  onChange?: (value: string) => void;
  onPorts: (ports: number[]) => void;
}) {
  const catalog = useCatalog();
  const items = catalog.data?.items;
  const services = useMemo(() => new Map((items ?? []).map((one) => [nameOf(one), one])), [items]);
  const names = useMemo(() => [...services.keys()], [services]);
  return (
    <Autocomplete
      label="Service"
      description="As NAMESPACE/NAME; also one that is not there yet."
      placeholder="shop/orders"
      limit={50}
      maxLength={127}
      data={names}
      {...field}
      onOptionSubmit={(name) => {
        onPorts(portsOf(services.get(name)));
      }}
    />
  );
}
