import { Button, Group, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation } from "@tanstack/react-query";

import { Problem } from "../../api/problem";
import { askForDirect, look, useChannel, type NotDirect } from "../../channel/channel";
import type { Pairing } from "../../channel/pairing";
import { forget, forgetHere } from "../../channel/pairUp";
import { MACHINE_AWAY } from "../../channel/problems";
import { NOT_DIRECT } from "../../channel/words";
import { AskFirst, Command, refused, said, State, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import { Dialog } from "../../parts/FormDialog";
import { Section } from "../../parts/Section";

/** By which way this page of the Hub reaches the machine that it is paired with, and why not by another. */
export function Way() {
  const channel = useChannel();
  if (channel.way !== "direct" && channel.way !== "relay") return null;
  const { pairing } = channel;
  return (
    <Section
      title="How this page reaches the machine"
      about="Each request is signed by this browser's own key, whichever way it goes."
      action={<State tone="good">{channel.way === "direct" ? "Directly" : "Through the Hub"}</State>}
    >
      <Facts
        facts={[
          ["Machine", <bdi key="machine">{pairing.name}</bdi>],
          [
            "Directly",
            channel.way === "direct"
              ? `At 127.0.0.1:${String(pairing.port)}: nothing of it leaves this machine`
              : `Not now. ${NOT_DIRECT[channel.notDirect]}`,
          ],
          [
            "Through the Hub",
            channel.way === "relay"
              ? "As long as the Hub is there; it can read what passes"
              : "When the direct way fails",
          ],
          [
            "May",
            pairing.acts
              ? "Look and change"
              : "Look, and change nothing: it was paired by czctl pair --read-only",
          ],
          [
            "Pairing",
            <>
              Ends <When at={pairing.expiresAt} />
            </>,
          ],
        ]}
      />
      <Group gap="sm">
        {channel.way === "relay" && <GoDirect notDirect={channel.notDirect} />}
        <Forget pairing={pairing} />
      </Group>
    </Section>
  );
}

/** A machine that is paired and does not answer: why, by each way, and what to do. */
export function NotReached() {
  const channel = useChannel();
  const again = useMutation({ mutationFn: () => look() });
  if (channel.way !== "none" || channel.why !== "away") return null;
  const { pairing, problem, notDirect } = channel;
  return (
    <Section
      title="The machine is not reached"
      about="This browser is paired with it, and neither way leads there now. It is looked for again by itself."
      action={<State tone="bad">Not reached</State>}
    >
      <Facts
        facts={[
          ["Machine", <bdi key="machine">{pairing.name}</bdi>],
          ["Directly", NOT_DIRECT[notDirect]],
          [
            "Through the Hub",
            <Stack key="hub" gap={2}>
              <Text size="sm">
                <bdi>{problem.detail}</bdi>
              </Text>
              {problem.fix !== undefined && problem.code !== MACHINE_AWAY && (
                <Text size="sm">{problem.fix}</Text>
              )}
              <Text size="xs" ff="monospace">
                {problem.code}
              </Text>
            </Stack>,
          ],
        ]}
      />
      <Text size="sm">
        On that machine, the first starts what answers pages. The second pairs this browser anew, where the
        pairing was revoked.
      </Text>
      <Command>czctl start</Command>
      <Command>czctl pair</Command>
      <Group gap="sm">
        <Button
          variant="default"
          loading={again.isPending}
          onClick={() => {
            again.mutate();
          }}
        >
          Look again
        </Button>
        <GoDirect notDirect={notDirect} />
        <Forget pairing={pairing} />
      </Group>
    </Section>
  );
}

/** A pairing that is good for nobody who looks: of somebody else, or ended. */
export function NoMore() {
  const channel = useChannel();
  if (channel.way !== "none" || (channel.why !== "other" && channel.why !== "ended")) return null;
  const { pairing, why } = channel;
  return (
    <Section
      title={why === "other" ? "Paired for somebody else" : "The pairing has ended"}
      about={
        why === "other" ? (
          <>
            This browser is paired with <bdi>{pairing.name}</bdi> for another user of this Hub, and not used
            for you.
          </>
        ) : (
          <>
            <bdi>{pairing.name}</bdi> does not know this browser any more: it was revoked there, or its 30
            days are over.
          </>
        )
      }
      action={<Forget pairing={pairing} isOver={why === "ended"} />}
    />
  );
}

function GoDirect({ notDirect }: { notDirect: NotDirect }) {
  const [isOpened, { open, close }] = useDisclosure(false);
  const ask = useMutation({
    mutationFn: askForDirect,
    onSuccess: (now) => {
      if (now.way !== "direct") return;
      said("This page asks the machine directly now");
      close();
    },
    onError: refused,
  });
  if (notDirect === "denied") return null;
  const after = ask.data !== undefined && "notDirect" in ask.data ? ask.data.notDirect : undefined;
  return (
    <>
      <Button
        variant="default"
        onClick={() => {
          ask.reset();
          open();
        }}
      >
        Go the direct way…
      </Button>
      <Dialog title="Go the direct way" opened={isOpened} onClose={close}>
        <Stack gap="md">
          <Text size="sm">
            Directly, requests go from this browser to the machine that it runs on, faster and past the Hub.
            Your browser may ask whether this page may reach apps or devices on your local network. Yes lets
            it. No is fine, too, where the Hub leads there.
          </Text>
          {after !== undefined && (
            <Text size="sm" role="alert">
              {after === "prompt"
                ? "Your browser got no answer to its question, or did not ask it."
                : NOT_DIRECT[after]}
            </Text>
          )}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              Cancel
            </Button>
            <Button
              data-autofocus
              loading={ask.isPending}
              onClick={() => {
                ask.mutate();
              }}
            >
              Try it
            </Button>
          </Group>
        </Stack>
      </Dialog>
    </>
  );
}

function Forget({ pairing, isOver = false }: { pairing: Pairing; isOver?: boolean }) {
  return (
    <AskFirst
      label="Forget this pairing"
      title={`Forget the pairing with ${pairing.name}?`}
      action={async () => {
        // What the machine does not know any more has not to be revoked there.
        if (isOver) await forgetHere(pairing);
        else if (await forget(pairing)) said("The pairing is revoked, and its key deleted from this browser");
        else
          refused(
            new Problem({
              status: 0,
              code: "CZ-GUI-007",
              title: "Forgotten here alone",
              detail: "The key is deleted from this browser; the machine was not told.",
              fix: `Revoke it there, too: czctl pairing revoke ${pairing.id}`,
            }),
          );
      }}
    >
      This browser reaches the machine no more, and its key is deleted. What the machine consumes and serves
      goes on. <code>czctl pair</code> pairs it anew.
    </AskFirst>
  );
}

/** How a browser is paired: for pages that have no machine. */
export function HowToPair() {
  return (
    <>
      <Text size="sm">
        In a terminal of the machine that has the agent, this opens a page that pairs this browser with it:
      </Text>
      <Command>czctl pair</Command>
    </>
  );
}
