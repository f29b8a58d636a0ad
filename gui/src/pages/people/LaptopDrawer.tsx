import { Drawer, Group, Paper, ScrollArea, Stack, Text, TextInput, Title } from "@mantine/core";
import { useState } from "react";

import { Nothing, Person, State, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import type { Laptop, Served } from "../../space/laptops";
import { ServiceLink, SpaceLink } from "../../space/links";
import { answersInWords } from "../../space/wording";
import { EndServe, EndSession } from "./Ending";

/** One laptop: whose, what it consumes and serves, and the end of both for who may. */
export function LaptopDrawer({
  laptop,
  name,
  isGone,
  onClose,
}: {
  laptop: Laptop | undefined;
  name: string;
  isGone: boolean;
  onClose: () => void;
}) {
  return (
    <Drawer
      opened={laptop !== undefined || isGone}
      onClose={onClose}
      position="right"
      size="md"
      title={<Title order={2}>{isGone ? "Not connected" : <bdi>{name}</bdi>}</Title>}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {laptop === undefined ? (
        <Nothing title="This laptop has left">Its session has ended, and all that it served with it.</Nothing>
      ) : (
        <Details laptop={laptop} name={name} />
      )}
    </Drawer>
  );
}

function Details({ laptop, name }: { laptop: Laptop; name: string }) {
  return (
    <Stack gap="lg">
      <Facts
        facts={[
          ["Person", <Person key="person" name={name} id={laptop.user} away={laptop.state === "away"} />],
          ["Laptop", laptop.name === "" ? "not told" : <bdi key="laptop">{laptop.name}</bdi>],
          [
            "State",
            <State key="state" tone={laptop.state === "online" ? "good" : "busy"}>
              {laptop.state === "online" ? "Online" : "Away"}
            </State>,
          ],
          ["Since", laptop.since === null ? "not seen for a while" : <When key="since" at={laptop.since} />],
        ]}
      />
      <Group gap="md">
        <SpaceLink page="graph" search={{ open: `laptop:${laptop.session}` }} size="sm">
          Show in the graph
        </SpaceLink>
        <SpaceLink page="activity" search={{ person: laptop.user }} size="sm">
          What they did
        </SpaceLink>
      </Group>
      <section aria-label="Serves">
        <Title order={3} mb="xs">
          Serves {laptop.serves.length > 0 && `(${String(laptop.serves.length)})`}
        </Title>
        {laptop.serves.length === 0 ? (
          <Text size="sm" c="dimmed">
            Nothing.
          </Text>
        ) : (
          <Stack gap="xs">
            {laptop.serves.map((one) => (
              <Variant key={one.id} served={one} />
            ))}
          </Stack>
        )}
      </section>
      <section aria-label="Consumes">
        <Title order={3} mb="xs">
          Consumes {laptop.consumes.length > 0 && `(${String(laptop.consumes.length)})`}
        </Title>
        <Consumed services={laptop.consumes} />
      </section>
      <EndSession laptop={laptop} name={name} />
    </Stack>
  );
}

function Variant({ served }: { served: Served }) {
  const words = { active: "Active", pending: "Pending", away: "Away" }[served.state];
  const tone = served.state === "active" ? "good" : "busy";
  return (
    <Paper withBorder p="sm">
      <Group justify="space-between" wrap="nowrap" align="flex-start">
        <Stack gap={2} miw={0}>
          <ServiceLink service={served.service} fw={500} style={{ overflowWrap: "anywhere" }} />
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            for <bdi>{answersInWords(served)}</bdi>
          </Text>
          <Text size="xs" c="dimmed">
            {served.ports.map((one) => `port ${String(one.remote)} to ${String(one.local)}`).join(", ")}; ends{" "}
            <When at={served.expires} />
          </Text>
        </Stack>
        <Stack gap="xs" align="flex-end">
          <State tone={tone}>{words}</State>
          <EndServe served={served} />
        </Stack>
      </Group>
    </Paper>
  );
}

const FEW = 12;

function Consumed({ services }: { services: string[] }) {
  const [text, setText] = useState("");
  if (services.length === 0)
    return (
      <Text size="sm" c="dimmed">
        Nothing.
      </Text>
    );
  const found = services.filter((one) => one.includes(text.trim().toLowerCase()));
  return (
    <Stack gap="xs">
      {services.length > FEW && (
        <TextInput
          aria-label="Filter what is consumed"
          placeholder="Filter"
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
        />
      )}
      <ScrollArea.Autosize mah={280} type="auto">
        <Stack gap={4} component="ul" p={0} m={0} style={{ listStyle: "none" }}>
          {found.slice(0, 200).map((service) => (
            <li key={service}>
              <ServiceLink service={service} />
            </li>
          ))}
        </Stack>
      </ScrollArea.Autosize>
      {found.length > 200 && (
        <Text size="xs" c="dimmed">
          and {found.length - 200} more; filter to see them
        </Text>
      )}
      {found.length === 0 && (
        <Text size="sm" c="dimmed">
          None is like that.
        </Text>
      )}
    </Stack>
  );
}
