import { List, Stack, Text } from "@mantine/core";

import { Command, PageHead } from "../../parts";
import { Section } from "../../parts/Section";

/** What the Hub can say of this machine: that it does not see it, and how to. */
export function WithoutConsole() {
  return (
    <>
      <PageHead
        title="My machine"
        about="This page comes from the Hub, which does not see the agent of your machine. The local console does."
      />
      <Stack gap="lg" maw={760}>
        <Section title="Open the local console" about="On the machine that has the agent:">
          <Command>{"czctl ui"}</Command>
          <Text size="sm">It opens the same pages in your browser, and they show and do more there:</Text>
          <List size="sm" spacing={4}>
            <List.Item>consume services and serve them, with what that does to others beforehand</List.Item>
            <List.Item>requests and connections of this machine as they end</List.Item>
            <List.Item>how the connection, names and packet rules of this machine are</List.Item>
          </List>
          <Text size="sm">
            It runs as you, on this machine alone, for as long as the command does. Your browser asks for no
            permission, nobody else on the machine gets in, and it works while the Hub is away.
          </Text>
        </Section>
        <Section title="The first time" about="Sign the machine in, and connect it:">
          <Command>{`czctl auth login --hub ${location.origin}`}</Command>
          <Command>{"czctl start"}</Command>
        </Section>
      </Stack>
    </>
  );
}
