import {
  ActionIcon,
  Alert,
  Button,
  Checkbox,
  Fieldset,
  Group,
  List,
  Loader,
  Modal,
  NumberInput,
  Select,
  Stack,
  Text,
  TextInput,
} from "@mantine/core";
import { useForm, type UseFormReturnType } from "@mantine/form";
import { useDebouncedValue } from "@mantine/hooks";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";

import { agent } from "../../api/agent";
import type { ServeResult, Service } from "../../api/agent.generated";
import { asProblem, type Problem } from "../../api/problem";
import { Command, ProblemAlert, State } from "../../parts";
import { CONDITION_KINDS, conditionInWords, takesKey, takesValue } from "../../space/conditions";
import { refOf } from "../../space/services";
import { useConsumeService, useServes } from "./consuming";
import { HowToAsk } from "./HowToAsk";
import { begun, changeOf, servable, wrongWith, type Beginning, type ServeValues } from "./serveForm";

/** Somebody else serves the very same requests. */
const TAKEN = "CZ-SERVE-003";

// How often it is asked how a new variant fares, besides what the agent tells by itself.
const SOON_MS = 1500;

type Form = UseFormReturnType<ServeValues>;

/** Serve a service from this machine: told beforehand what it does and who is in the way, and afterwards how to try it. */
export function ServeDialog({
  service,
  isConsumed,
  beginning,
  opened,
  onClose,
}: {
  service: Service;
  isConsumed: boolean;
  beginning: Beginning;
  opened: boolean;
  onClose: () => void;
}) {
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={
        <>
          Serve <bdi>{refOf(service.ref)}</bdi>
        </>
      }
      closeButtonProps={{ "aria-label": "Close" }}
      size="lg"
    >
      <Serve service={service} isConsumed={isConsumed} beginning={beginning} onClose={onClose} />
    </Modal>
  );
}

function Serve({
  service,
  isConsumed,
  beginning,
  onClose,
}: {
  service: Service;
  isConsumed: boolean;
  beginning: Beginning;
  onClose: () => void;
}) {
  const client = useQueryClient();
  const form = useForm<ServeValues>({
    initialValues: begun(service, beginning),
    validate: wrongWith,
    validateInputOnBlur: true,
  });
  const change = useMemo(() => changeOf(service, form.values), [service, form.values]);
  const [settled] = useDebouncedValue(change, 350);
  const preview = useQuery({
    queryKey: ["agent", "serve", "preview", settled],
    queryFn: ({ signal }) => {
      if (settled === undefined) throw new Error("nothing to look at");
      return agent.serve({ ...settled, preview: true }, signal);
    },
    enabled: settled !== undefined,
    retry: false,
    gcTime: 0,
  });
  const serve = useMutation({
    mutationFn: async () => {
      if (change === undefined) throw new Error("not complete");
      return await agent.serve(change);
    },
    onSuccess: () => void client.invalidateQueries({ queryKey: ["agent"] }),
  });
  if (serve.data?.served)
    return <Served service={service} result={serve.data} isConsumed={isConsumed} onClose={onClose} />;
  const problem = preview.isError && change !== undefined ? asProblem(preview.error) : undefined;
  return (
    <form
      noValidate
      onSubmit={form.onSubmit(() => {
        serve.mutate();
      })}
    >
      <Stack gap="md">
        <PortRows form={form} service={service} />
        <ConditionRows form={form} />
        <Group grow align="flex-start">
          <Select
            label="Expires"
            allowDeselect={false}
            data={[
              { value: "1800", label: "In 30 minutes" },
              { value: "3600", label: "In 1 hour" },
              { value: "7200", label: "In 2 hours" },
              { value: "14400", label: "In 4 hours" },
              { value: "", label: "In 8 hours, the longest" },
            ]}
            {...form.getInputProps("expires")}
          />
          <Select
            label="Mirror"
            allowDeselect={false}
            data={[
              { value: "none", label: "No: answer the requests" },
              { value: "safe", label: "Copies of safe methods" },
              { value: "all", label: "Copies of every method" },
            ]}
            {...form.getInputProps("mirror")}
          />
        </Group>
        <Checkbox
          label="Also restart the service's pods"
          description="So that connections opened before take part too."
          {...form.getInputProps("restart", { type: "checkbox" })}
        />
        <Preflight result={preview.data} problem={problem} isAsking={preview.isFetching} />
        {(form.values.takeover || problem?.code === TAKEN) && (
          <Checkbox
            label="Take over from whoever serves the same requests"
            description="Their variant ends, and they are told."
            {...form.getInputProps("takeover", { type: "checkbox" })}
          />
        )}
        {serve.error !== null && problem === undefined && <ProblemAlert error={serve.error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={serve.isPending} disabled={problem !== undefined}>
            {form.values.takeover ? "Take over and serve" : "Serve"}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

function PortRows({ form, service }: { form: Form; service: Service }) {
  const offered = servable(service).map((port) => ({
    value: String(port.port),
    label: port.name === null ? String(port.port) : `${String(port.port)} ${port.name}`,
  }));
  const rows = form.values.ports;
  return (
    <Fieldset legend="Ports" variant="default">
      <Stack gap="sm">
        {rows.map((_, index) => {
          const at = `ports.${String(index)}`;
          return (
            <Group key={at} gap="sm" wrap="nowrap" align="flex-start">
              <Select
                label="Service port"
                allowDeselect={false}
                data={offered}
                flex={1}
                {...form.getInputProps(`${at}.remote`)}
              />
              <NumberInput
                label="Local port"
                min={1}
                max={65_535}
                allowDecimal={false}
                hideControls
                flex={1}
                {...(index === 0 ? { "data-autofocus": true } : {})}
                {...form.getInputProps(`${at}.local`)}
              />
              <TextInput
                label="Host"
                placeholder="this machine"
                flex={1}
                {...form.getInputProps(`${at}.host`)}
              />
              <ActionIcon
                mt={28}
                variant="subtle"
                color="gray"
                aria-label={`Remove port ${rows[index]?.remote ?? ""}`}
                disabled={rows.length === 1}
                onClick={() => {
                  form.removeListItem("ports", index);
                }}
              >
                <IconTrash size={16} aria-hidden />
              </ActionIcon>
            </Group>
          );
        })}
        {rows.length < offered.length && (
          <Button
            size="xs"
            variant="subtle"
            w="fit-content"
            leftSection={<IconPlus size={14} aria-hidden />}
            onClick={() => {
              const next = offered.find((port) => rows.every((row) => row.remote !== port.value));
              if (next === undefined) return;
              form.insertListItem("ports", { remote: next.value, local: Number(next.value), host: "" });
            }}
          >
            Add a port
          </Button>
        )}
      </Stack>
    </Fieldset>
  );
}

const HINTS: Record<string, { key?: string; value: string; hint?: string }> = {
  header: { key: "x-debug", value: "alice" },
  baggage: {
    key: "session",
    value: "alice",
    hint: "Travels with the request through services that pass it on.",
  },
  query: { key: "debug", value: "alice" },
  cookie: { key: "debug", value: "alice" },
  path: { value: "/api", hint: "This path and all below it." },
  method: { value: "GET" },
  percent: { value: "10", hint: "So many of a hundred requests; HEADER:10 to keep a client on its side." },
  user: { value: "", hint: "Requests that carry your user id in header x-c6o-userid." },
  default: { value: "", hint: "Every request of the whole team, unless another variant takes it." },
};

function ConditionRows({ form }: { form: Form }) {
  const rows = form.values.condition;
  return (
    <Fieldset legend={rows.length > 1 ? "Requests that meet all of" : "Which requests"}>
      <Stack gap="sm">
        {rows.map((part, index) => {
          const at = `condition.${String(index)}`;
          const hints = HINTS[part.kind];
          return (
            <Stack key={at} gap={4}>
              <Group gap="sm" wrap="nowrap" align="flex-start">
                <Select
                  label="Condition"
                  allowDeselect={false}
                  data={[...CONDITION_KINDS]}
                  flex={takesValue(part.kind) ? 1.2 : 1}
                  {...form.getInputProps(`${at}.kind`)}
                />
                {takesKey(part.kind) && (
                  <TextInput
                    label="Name"
                    placeholder={hints?.key}
                    spellCheck={false}
                    flex={1}
                    {...form.getInputProps(`${at}.key`)}
                  />
                )}
                {takesValue(part.kind) && (
                  <TextInput
                    label="Value"
                    placeholder={hints?.value}
                    spellCheck={false}
                    flex={1}
                    {...form.getInputProps(`${at}.value`)}
                  />
                )}
                <ActionIcon
                  mt={28}
                  variant="subtle"
                  color="gray"
                  aria-label={`Remove condition ${String(index + 1)}`}
                  disabled={rows.length === 1}
                  onClick={() => {
                    form.removeListItem("condition", index);
                  }}
                >
                  <IconTrash size={16} aria-hidden />
                </ActionIcon>
              </Group>
              {hints?.hint !== undefined && (
                <Text size="xs" c="dimmed">
                  {hints.hint}
                </Text>
              )}
            </Stack>
          );
        })}
        <Button
          size="xs"
          variant="subtle"
          w="fit-content"
          leftSection={<IconPlus size={14} aria-hidden />}
          disabled={rows.length >= 8 || rows.some((part) => part.kind === "default")}
          onClick={() => {
            form.insertListItem("condition", { kind: "header", key: "", value: "" });
          }}
        >
          And another condition
        </Button>
      </Stack>
    </Fieldset>
  );
}

// As czctl prints it after "note:".
function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What serving would do, looked at before it is done. */
function Preflight({
  result,
  problem,
  isAsking,
}: {
  result: ServeResult | undefined;
  problem: Problem | undefined;
  isAsking: boolean;
}) {
  if (problem?.code === TAKEN)
    return (
      <Alert color="yellow" title="Somebody is in the way" role="status">
        <Stack gap="sm">
          <Text size="sm">{problem.detail}</Text>
          <Text size="sm">Choose another condition, or take it over.</Text>
          <Text size="xs" ff="monospace">
            {problem.code}
          </Text>
        </Stack>
      </Alert>
    );
  if (problem !== undefined) return <ProblemAlert error={problem} title="This cannot be served" />;
  if (result === undefined)
    return isAsking ? (
      <Group gap="xs" role="status">
        <Loader size="xs" aria-hidden />
        <Text size="sm" c="dimmed">
          Looking what this would do
        </Text>
      </Group>
    ) : null;
  return (
    <Alert
      color={result.taken.length > 0 ? "yellow" : "sea"}

      title="Before you serve"
      role="status"
    >
      <Stack gap="xs">
        {result.effects.length === 0 && result.taken.length === 0 && (
          <Text size="sm">It can be served, and nobody is in the way. Nothing else changes.</Text>
        )}
        {result.effects.length > 0 && (
          <List size="sm">
            {result.effects.map((effect) => (
              <List.Item key={effect}>{sentence(effect)}</List.Item>
            ))}
          </List>
        )}
        {result.taken.map((one) => (
          <Text key={one.variant_id} size="sm">
            The variant of <bdi>{one.user_name}</bdi> for <bdi>{conditionInWords(one.condition)}</bdi> ends,
            and its owner is told.
          </Text>
        ))}
      </Stack>
    </Alert>
  );
}

/** Afterwards: how it fares, and one command to try it. */
function Served({
  service,
  result,
  isConsumed,
  onClose,
}: {
  service: Service;
  result: ServeResult;
  isConsumed: boolean;
  onClose: () => void;
}) {
  const before = result.served;
  const now = useServes(true, SOON_MS).data?.serves.find(
    (one) => one.variant.variant_id === before?.variant.variant_id,
  );
  const served = now ?? before;
  const consume = useConsumeService(
    service.ref,
    service.ports.map((port) => port.port),
  );
  if (served === null || served === undefined) return null;
  const isReady = served.state === "active" && served.serving === "active";
  const isRefused = served.serving === "refused" || served.serving === "contested";
  return (
    <Stack gap="md">
      <Group gap="sm" role="status">
        <State tone={isReady ? "good" : isRefused ? "bad" : "busy"}>
          {isReady
            ? "Requests come here"
            : isRefused
              ? `Serving is ${served.serving}`
              : "The Teamspace prepares it"}
        </State>
        {served.detail !== "" && (
          <Text size="sm">
            <bdi>{served.detail}</bdi>
          </Text>
        )}
      </Group>
      {result.taken.map((one) => (
        <Text key={one.variant_id} size="sm">
          The variant of <bdi>{one.user_name}</bdi> was taken over.
        </Text>
      ))}
      <HowToAsk service={service} variant={served.variant} curl={served.curl ?? undefined} />
      {!isConsumed && (
        <Alert color="yellow" title="Not consumed on this machine">
          <Stack gap="sm" align="flex-start">
            <Text size="sm">So its name does not lead to it here yet.</Text>
            <Button
              size="xs"
              variant="default"
              loading={consume.isPending}
              onClick={() => {
                consume.mutate(true);
              }}
            >
              Consume it
            </Button>
          </Stack>
        </Alert>
      )}
      <Text size="sm">To end it, here or in a terminal:</Text>
      <Command>{`czctl serve end ${refOf(service.ref)}`}</Command>
      <Group justify="flex-end">
        <Button onClick={onClose}>Done</Button>
      </Group>
    </Stack>
  );
}
