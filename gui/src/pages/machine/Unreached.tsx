import { List, Stack, Text } from "@mantine/core";

import { useChannel } from "../../channel/channel";
import { Command, PageHead } from "../../parts";
import { Section } from "../../parts/Section";
import { HowToPair, NoMore, NotReached } from "./Way";

/** What the Hub can say of a machine that this page does not reach: how to get there. */
export function Unreached() {
  const channel = useChannel();
  const isAway = channel.way === "none" && channel.why === "away";
  return (
    <>
      <PageHead
        title="My machine"
        about={
          isAway
            ? "The agent of the machine that this browser is paired with."
            : "This page comes from the Hub, and reaches the agent of your machine when this browser is paired with it. The local console does without."
        }
      />
      <Stack gap="lg" maw={760}>
        <NotReached />
        <NoMore />
        {!isAway && (
          <Section title="Pair this browser" about="Once for each browser; it is good for 30 days.">
            {channel.way === "none" && channel.why === "insecure" ? (
              <Text size="sm">
                Browsers keep keys for pages of HTTPS alone, and this Hub is not asked by HTTPS. The local
                console works all the same.
              </Text>
            ) : (
              <>
                <HowToPair />
                <Text size="sm">
                  The pages here show and do more then: consume services and serve them, requests as they end,
                  and how this machine is. By <code>czctl pair --read-only</code> they show it, and change
                  nothing.
                </Text>
              </>
            )}
          </Section>
        )}
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
        {!isAway && (
          <Section title="The first time" about="Sign the machine in, and connect it:">
            <Command>{`czctl auth login --hub ${location.origin}`}</Command>
            <Command>{"czctl start"}</Command>
          </Section>
        )}
      </Stack>
    </>
  );
}
