import { Stack, Text } from "@mantine/core";

import { agent, localConsole } from "../../api/agent";
import type { StatusView } from "../../api/agent.generated";
import { AskFirst, Command, said } from "../../parts";
import { Deed, Deeds } from "../../parts/Deed";
import { Section } from "../../parts/Section";
import { useAgent } from "../../session/agent";
import { useMachineChanged } from "./queries";
import { count } from "./words";

/** What ends what this machine does: all of it, the connection, or the agent itself. */
export function Ending({ status }: { status: StatusView }) {
  const changed = useMachineChanged();
  const { channel, mayAct } = useAgent();
  const name = status.teamspace?.name ?? "";
  const now = `It consumes ${count(status.consumed, "service")} and serves ${count(status.served, "variant")} now.`;
  const done = (message: string) => () => {
    said(message);
    void changed();
  };
  return (
    <Section title="End">
      <Deeds>
        {status.teamspace !== null && mayAct && (
          <>
            <Deed
              title="Reset"
              about="Ends all that this machine consumes and serves. It stays connected, and keeps its primary namespace."
            >
              <AskFirst
                label="Reset"
                title="End all that this machine consumes and serves?"
                action={agent.reset}
                onDone={done("This machine consumes and serves nothing now")}
              >
                {now} Open connections end, and its rules are gone. What your other machines do goes on.
              </AskFirst>
            </Deed>
            <Deed
              title="Leave the Teamspace"
              about="The agent keeps running, and is in no Teamspace until one is selected."
            >
              <AskFirst
                label="Leave"
                title={`Leave ${name}?`}
                action={agent.leaveTeamspace}
                onDone={done(`This machine has left ${name}`)}
              >
                {now} All of that ends. The access is forgotten on this machine; the Hub gives another one
                while you are signed in.
              </AskFirst>
            </Deed>
          </>
        )}
        <Deed
          title="Stop the agent"
          about="Disconnects, and puts the machine back as it was. What it consumes comes back with the next start."
        >
          {channel === "console" ? (
            <AskFirst
              label="Stop"
              title="Stop the agent?"
              action={localConsole.stopAgent}
              onDone={done("The agent is stopped, and this machine is as it was")}
            >
              {now} Names, addresses and packet rules are taken away. This page stays, and starts it again
              where that asks for no password.
            </AskFirst>
          ) : (
            <Command>czctl stop</Command>
          )}
        </Deed>
      </Deeds>
    </Section>
  );
}

/** Where to look when something is not as it should be, and no warning says why. */
export function LookCloser() {
  return (
    <Section title="Look closer" about="In a terminal of this machine:">
      <Stack gap="xs">
        <Text size="sm">Requests and connections, as they end</Text>
        <Command>{"czctl trace-connections"}</Command>
        <Text size="sm">All of this page, for a report</Text>
        <Command>{"czctl status -o json"}</Command>
        <Text size="sm">The log of the agent</Text>
        <Command>{"sudo tail -f /var/lib/codezero/agent.log"}</Command>
      </Stack>
    </Section>
  );
}
