import { Badge, Button, Drawer, Group, Stack, Table, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState, type ReactNode } from "react";

import type { ConsumedService, Presence, Service } from "../../api/agent.generated";
import { CopyButton, Nothing, Person, State } from "../../parts";
import { ReadOnly } from "../../parts/ReadOnly";
import { useAgent } from "../../session/agent";
import { useMay } from "../../session/session";
import { consumedInWords, healthInWords, healthOf, KINDS, refOf } from "../../space/services";
import { usePresence } from "../../space/source";
import classes from "./Catalog.module.css";
import { useConsume, useConsumed, useConsumeService } from "./consuming";
import { NoAgent } from "./NoAgent";
import { ServeDialog } from "./ServeDialog";
import type { Beginning } from "./serveForm";
import { Variants } from "./Variants";

const MOST_PODS = 50;

/** All there is to know of one service, and what can be done with it. `opened` is `namespace/name`, or nothing. */
export function ServiceDrawer({
  opened,
  services,
  hasAgent,
  onClose,
}: {
  opened: string;
  services: Service[];
  hasAgent: boolean;
  onClose: () => void;
}) {
  const service = services.find((one) => refOf(one.ref) === opened);
  return (
    <Drawer
      opened={opened !== ""}
      onClose={onClose}
      // Dialogs that are opened from here are closed by Escape alone: see `onKeyDown`.
      closeOnEscape={false}
      onKeyDown={(event) => {
        const isHere = event.target instanceof Node && event.currentTarget.contains(event.target);
        if (event.key === "Escape" && isHere) onClose();
      }}
      closeButtonProps={{ "aria-label": "Close" }}
      position="right"
      size="xl"
      title={<bdi>{opened}</bdi>}
      styles={{ title: { fontWeight: 600, overflowWrap: "anywhere", minWidth: 0 } }}
    >
      {service === undefined ? (
        <Nothing title="Not in the catalog">
          There is no such service, or not any more, or you may not see it.
        </Nothing>
      ) : (
        <OneService service={service} hasAgent={hasAgent} key={opened} />
      )}
    </Drawer>
  );
}

function OneService({ service, hasAgent }: { service: Service; hasAgent: boolean }) {
  const ref = refOf(service.ref);
  const consumed = useConsumed(useConsume(hasAgent).data)?.get(ref);
  const [isServing, { open, close }] = useDisclosure(false);
  const [beginning, setBeginning] = useState<Beginning>({});
  const serve = (from: Beginning) => {
    setBeginning(from);
    open();
  };
  const { mayAct } = useAgent();
  const mayConnect = useMay()("spaces.connect");
  const canBeServed =
    service.ports.some((port) => port.protocol === "TCP") && service.kind !== "external-name";
  return (
    <Stack gap="lg" pb="lg">
      <Group gap="xs">
        <State tone={healthOf(service)}>{healthInWords(service)}</State>
        <Badge variant="default" radius="sm" tt="none" fw={500}>
          {KINDS[service.kind]}
        </Badge>
      </Group>
      <Group gap="sm">
        {hasAgent && !mayAct ? (
          <ReadOnly />
        ) : hasAgent ? (
          <>
            <ConsumeButton service={service} consumed={consumed} />
            {canBeServed && (
              <Button
                variant="default"
                onClick={() => {
                  serve({});
                }}
              >
                Serve…
              </Button>
            )}
          </>
        ) : (
          mayConnect && <NoAgent service={ref} />
        )}
      </Group>
      <Part title="Reach it">
        <Reach service={service} consumed={consumed} hasAgent={hasAgent} />
      </Part>
      <Part title="Ports">
        <Ports service={service} consumed={consumed} />
      </Part>
      {service.pods.length > 0 && (
        <Part title={`Pods (${String(service.pods.length)})`}>
          <Pods service={service} />
        </Part>
      )}
      <Part title="Variants">
        <Variants service={service} hasAgent={hasAgent} onServe={serve} />
      </Part>
      <Part title="Who consumes it">
        <WhoConsumes service={service} />
      </Part>
      {hasAgent && mayAct && (
        <ServeDialog
          service={service}
          isConsumed={consumed !== undefined}
          beginning={beginning}
          opened={isServing}
          onClose={close}
        />
      )}
    </Stack>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Stack gap="xs" component="section" aria-label={title}>
      <Title order={3}>{title}</Title>
      {children}
    </Stack>
  );
}

function ConsumeButton({ service, consumed }: { service: Service; consumed: ConsumedService | undefined }) {
  const ports = service.ports.map((port) => port.port);
  const change = useConsumeService(service.ref, ports);
  const isPart = consumed !== undefined && ports.some((port) => !consumed.ports.includes(port));
  return (
    <>
      {(consumed === undefined || isPart) && (
        <Button
          loading={change.isPending && change.variables}
          onClick={() => {
            change.mutate(true);
          }}
        >
          {isPart ? "Consume every port" : "Consume"}
        </Button>
      )}
      {consumed !== undefined && (
        <Button
          variant="default"
          loading={change.isPending && !change.variables}
          onClick={() => {
            change.mutate(false);
          }}
        >
          Stop consuming
        </Button>
      )}
    </>
  );
}

function Copyable({ text, label }: { text: string; label: string }) {
  return (
    <Group gap={4} wrap="nowrap">
      <Text size="sm" ff="monospace" style={{ overflowWrap: "anywhere" }}>
        <bdi>{text}</bdi>
      </Text>
      <CopyButton text={text} label={label} />
    </Group>
  );
}

function Reach({
  service,
  consumed,
  hasAgent,
}: {
  service: Service;
  consumed: ConsumedService | undefined;
  hasAgent: boolean;
}) {
  const { name, namespace } = service.ref;
  const names = consumed?.names ?? [`${name}.${namespace}.svc`, `${name}.${namespace}.svc.cluster.local`];
  const isUsable = consumed !== undefined && consumed.state !== "refused" && consumed.state !== "conflict";
  return (
    <dl className={classes.facts}>
      {consumed !== undefined && (
        <>
          <dt>On this machine</dt>
          <dd>
            {consumedInWords(consumed)}
            {consumed.reason !== null && (
              <Text size="sm" component="span">
                : <bdi>{consumed.reason}</bdi>
              </Text>
            )}
            {consumed.sessions > 0 &&
              `, ${String(consumed.sessions)} open ${consumed.sessions === 1 ? "connection" : "connections"}`}
          </dd>
        </>
      )}
      {names.length > 0 && (
        <>
          <dt>{isUsable ? "Names" : "Names when consumed"}</dt>
          <dd>
            <Stack gap={2}>
              {names.map((one) => (
                <Copyable key={one} text={one} label="Copy the name" />
              ))}
            </Stack>
          </dd>
        </>
      )}
      {hasAgent && (
        <>
          <dt>Virtual address</dt>
          <dd>
            {consumed?.address === undefined || consumed.address === null ? (
              <Text size="sm" c="dimmed">
                none; a service gets one while it is consumed
              </Text>
            ) : (
              <Copyable text={consumed.address} label="Copy the address" />
            )}
          </dd>
        </>
      )}
      {service.external_name !== null && (
        <>
          <dt>Leads to</dt>
          <dd>
            <Copyable text={service.external_name} label="Copy the name" />
          </dd>
        </>
      )}
    </dl>
  );
}

function Ports({ service, consumed }: { service: Service; consumed: ConsumedService | undefined }) {
  if (service.ports.length === 0)
    return (
      <Text size="sm" c="dimmed">
        This service names no ports.
      </Text>
    );
  return (
    <Table fz="sm" verticalSpacing={6}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Port</Table.Th>
          <Table.Th>Name</Table.Th>
          <Table.Th>Protocol</Table.Th>
          {consumed !== undefined && <Table.Th>Consumed</Table.Th>}
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {service.ports.map((port) => (
          <Table.Tr key={`${String(port.port)}${port.protocol}`}>
            <Table.Td>{port.port}</Table.Td>
            <Table.Td>
              <bdi>{port.name ?? "–"}</bdi>
            </Table.Td>
            <Table.Td>
              {port.protocol}
              {port.app_protocol !== null && (
                <>
                  , <bdi>{port.app_protocol}</bdi>
                </>
              )}
            </Table.Td>
            {consumed !== undefined && (
              <Table.Td>{consumed.ports.includes(port.port) ? "yes" : "no"}</Table.Td>
            )}
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Pods({ service }: { service: Service }) {
  const left = service.pods.length - MOST_PODS;
  return (
    <Stack gap={2}>
      <Text size="sm" c="dimmed">
        Each ready pod can be asked for by its own name.
      </Text>
      {service.pods.slice(0, MOST_PODS).map((pod) => (
        <Copyable
          key={pod}
          text={`${pod}.${service.ref.name}.${service.ref.namespace}.svc`}
          label="Copy the name"
        />
      ))}
      {left > 0 && (
        <Text size="sm" c="dimmed">
          and {left.toLocaleString("en")} more
        </Text>
      )}
    </Stack>
  );
}

const STATES: Record<Presence["state"], string> = { online: "online", away: "away", gone: "gone" };

function WhoConsumes({ service }: { service: Service }) {
  const presence = usePresence();
  const found = (presence.data?.items ?? []).filter((one) =>
    one.consumes.some((ref) => ref.name === service.ref.name && ref.namespace === service.ref.namespace),
  );
  if (presence.data === undefined)
    return (
      <Text size="sm" c="dimmed">
        {presence.isPending ? "Asking…" : "It is not known who is connected."}
      </Text>
    );
  if (found.length === 0)
    return (
      <Text size="sm" c="dimmed">
        Nobody at the moment.
      </Text>
    );
  return (
    <Stack gap="xs">
      {found.map((one) => (
        <Group key={one.session} gap="sm" wrap="nowrap" justify="space-between">
          <Person name={one.user_name} id={one.device.user} away={one.state !== "online"} />
          <Text size="sm" c="dimmed" truncate>
            <bdi>{one.name}</bdi>, {STATES[one.state]}
          </Text>
        </Group>
      ))}
    </Stack>
  );
}
