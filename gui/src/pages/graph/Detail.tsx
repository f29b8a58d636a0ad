import { Alert, Anchor, Drawer, Group, Stack, Text, Title } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import type { ReactNode } from "react";

import type { Service } from "../../api/agent.generated";
import { Nothing, Person, State, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import { servedOf, type Laptop, type Served } from "../../space/laptops";
import { ServiceLink, SpaceLink } from "../../space/links";
import { healthInWords, KINDS, portsInWords } from "../../space/services";
import { refOf } from "../../space/services";
import { answersInWords } from "../../space/wording";
import { laptopId, problemOf, serviceId, variantId } from "./picture";

interface Things {
  services: readonly Service[];
  laptops: readonly Laptop[];
  nameOf: (laptop: Laptop) => string;
  onOpen: (node: string) => void;
}

/** What a node of the graph stands for, why it needs attention where it does, and where to go on. */
export function Detail({
  node,
  onClose,
  ...things
}: { node: string | undefined; onClose: () => void } & Things) {
  const { title, content } = node === undefined ? { title: "", content: null } : shown(node, things);
  return (
    <Drawer
      opened={node !== undefined}
      onClose={onClose}
      position="right"
      size="md"
      title={
        <Title order={2} style={{ overflowWrap: "anywhere" }}>
          <bdi>{title}</bdi>
        </Title>
      }
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {content}
    </Drawer>
  );
}

function shown(node: string, things: Things): { title: string; content: ReactNode } {
  const at = node.indexOf(":");
  const [kind, id] = [node.slice(0, at), node.slice(at + 1)];
  if (kind === "service") {
    const service = things.services.find((one) => refOf(one.ref) === id);
    if (service !== undefined) return { title: id, content: <OfService service={service} {...things} /> };
  }
  if (kind === "laptop") {
    const laptop = things.laptops.find((one) => one.session === id);
    if (laptop !== undefined)
      return { title: things.nameOf(laptop), content: <OfLaptop laptop={laptop} {...things} /> };
  }
  if (kind === "variant")
    for (const service of things.services)
      for (const one of service.serving?.variants ?? [])
        if (one.variant_id === id) {
          const [served] = servedOf(service.ref, [one]);
          if (served !== undefined)
            return {
              title: `Variant of ${served.service}`,
              content: <OfVariant served={served} service={service} session={one.session} {...things} />,
            };
        }
  return {
    title: "Not there any more",
    content: <Nothing title="This has ended">It was removed, or you may no longer see it.</Nothing>,
  };
}

function Cause({ children }: { children: ReactNode }) {
  return (
    <Alert color="red" icon={<IconAlertTriangle aria-hidden />} p="sm">
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        {children}
      </Text>
    </Alert>
  );
}

function Part({ title, empty, children }: { title: string; empty: string; children: ReactNode[] }) {
  return (
    <section aria-label={title}>
      <Title order={3} mb="xs">
        {title}
      </Title>
      {children.length === 0 ? (
        <Text size="sm" c="dimmed">
          {empty}
        </Text>
      ) : (
        <Stack gap={8} component="ul" p={0} m={0} style={{ listStyle: "none" }}>
          {children}
        </Stack>
      )}
    </section>
  );
}

const MOST = 100;

function few<T>(items: readonly T[], show: (item: T) => ReactNode): ReactNode[] {
  const rows = items.slice(0, MOST).map(show);
  if (items.length > MOST)
    rows.push(
      <li key="more">
        <Text size="xs" c="dimmed">
          and {items.length - MOST} more
        </Text>
      </li>,
    );
  return rows;
}

function ToLaptop({ laptop, nameOf, onOpen }: { laptop: Laptop } & Things) {
  return (
    <Anchor
      component="button"
      type="button"
      onClick={() => {
        onOpen(laptopId(laptop.session));
      }}
    >
      <Person name={nameOf(laptop)} id={laptop.user} away={laptop.state === "away"} />
    </Anchor>
  );
}

function ToVariant({ served, onOpen }: { served: Served; onOpen: (node: string) => void }) {
  return (
    <Anchor
      component="button"
      type="button"
      size="sm"
      ta="start"
      style={{ overflowWrap: "anywhere" }}
      onClick={() => {
        onOpen(variantId(served.id));
      }}
    >
      <bdi>{answersInWords(served)}</bdi>
    </Anchor>
  );
}

function OfService({ service, ...things }: { service: Service } & Things) {
  const ref = refOf(service.ref);
  const problem = problemOf(service);
  const consumers = things.laptops.filter((one) => one.consumes.includes(ref));
  const serves = service.serving === null ? [] : servedOf(service.ref, service.serving.variants);
  return (
    <Stack gap="lg">
      {problem !== undefined && (
        <Cause>
          <bdi>{ref}</bdi> <bdi>{problem.words}</bdi>. {nextStep(service)}
        </Cause>
      )}
      <Facts
        facts={[
          ["Endpoints", healthInWords(service)],
          ["Kind", KINDS[service.kind]],
          ["Ports", portsInWords(service) || "none"],
          ["Serving", service.serving === null ? "not served" : service.serving.state],
        ]}
      />
      <SpaceLink page="catalog" search={{ service: ref }} size="sm">
        Open in the catalog
      </SpaceLink>
      <Part title="Served by" empty="Its own pods answer every request.">
        {few(serves, (one) => {
          const laptop = things.laptops.find((other) => other.session === one.session);
          return (
            <li key={one.id}>
              <Group gap="xs" justify="space-between" wrap="nowrap">
                {laptop === undefined ? <bdi>{one.user_name}</bdi> : <ToLaptop laptop={laptop} {...things} />}
                <State tone={one.state === "active" ? "good" : "busy"}>{one.state}</State>
              </Group>
              <ToVariant served={one} onOpen={things.onOpen} />
            </li>
          );
        })}
      </Part>
      <Part title="Consumed by" empty="Nobody consumes it now.">
        {few(consumers, (one) => (
          <li key={one.session}>
            <ToLaptop laptop={one} {...things} />
          </li>
        ))}
      </Part>
    </Stack>
  );
}

function nextStep(service: Service): string {
  if (service.serving?.state === "contested")
    return "Its traffic stays with its own pods; find out what else keeps writing its selector, such as a GitOps controller.";
  if (service.serving?.state === "refused") return "Its traffic stays with its own pods.";
  if (service.total === 0)
    return "Nothing runs behind it: look at its selector and at the workload that should match it.";
  return "Its pods run but are not ready: look at their events and their readiness probe.";
}

function OfLaptop({ laptop, ...things }: { laptop: Laptop } & Things) {
  const name = things.nameOf(laptop);
  const isAway = laptop.state === "away";
  return (
    <Stack gap="lg">
      {isAway && (
        <Alert color="yellow" p="sm">
          <Text size="sm">
            This laptop is silent. What it serves waits for it, and the services&apos; own pods answer
            meanwhile.
          </Text>
        </Alert>
      )}
      <Facts
        facts={[
          ["Person", <Person key="person" name={name} id={laptop.user} />],
          ["Laptop", laptop.name === "" ? "not told" : <bdi key="laptop">{laptop.name}</bdi>],
          ["State", isAway ? "away" : "online"],
          ["Since", laptop.since === null ? "not seen for a while" : <When key="since" at={laptop.since} />],
        ]}
      />
      <SpaceLink page="people" search={{ session: laptop.session }} size="sm">
        Open in people
      </SpaceLink>
      <Part title="Serves" empty="Nothing.">
        {few(laptop.serves, (one) => (
          <li key={one.id}>
            <Text size="sm" component="div" style={{ overflowWrap: "anywhere" }}>
              <bdi>{one.service}</bdi> for
            </Text>
            <ToVariant served={one} onOpen={things.onOpen} />
          </li>
        ))}
      </Part>
      <Part title="Consumes" empty="Nothing.">
        {few(laptop.consumes, (ref) => (
          <li key={ref}>
            <Anchor
              component="button"
              type="button"
              size="sm"
              ta="start"
              onClick={() => {
                things.onOpen(serviceId(ref));
              }}
            >
              <bdi>{ref}</bdi>
            </Anchor>
          </li>
        ))}
      </Part>
    </Stack>
  );
}

function OfVariant({
  served,
  service,
  session,
  ...things
}: { served: Served; service: Service; session: string } & Things) {
  const laptop = things.laptops.find((one) => one.session === session);
  const problem = problemOf(service);
  return (
    <Stack gap="lg">
      {problem !== undefined && (
        <Cause>
          The service <bdi>{problem.words}</bdi>. {nextStep(service)}
        </Cause>
      )}
      {served.state === "away" && (
        <Alert color="yellow" p="sm">
          <Text size="sm">Its laptop is away; the service&apos;s own pods answer meanwhile.</Text>
        </Alert>
      )}
      <Facts
        facts={[
          [served.mirror === null ? "Answers" : "Gets", <bdi key="answers">{answersInWords(served)}</bdi>],
          ["Service", <ServiceLink key="service" service={served.service} />],
          [
            "Person",
            laptop === undefined ? (
              <bdi key="person">{served.user_name}</bdi>
            ) : (
              <ToLaptop key="person" laptop={laptop} {...things} />
            ),
          ],
          ["State", served.state],
          ["Ports", served.ports.map((one) => `${String(one.remote)} to ${String(one.local)}`).join(", ")],
          ["Ends", <When key="ends" at={served.expires} />],
        ]}
      />
    </Stack>
  );
}
