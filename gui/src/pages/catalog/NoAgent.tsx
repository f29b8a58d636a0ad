import { Button, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Link } from "@tanstack/react-router";

import { useChannel } from "../../channel/channel";
import { Command } from "../../parts";
import { Dialog } from "../../parts/FormDialog";
import { useAgent } from "../../session/agent";

/** In place of the buttons that need an agent: how to get there. */
export function NoAgent({ service }: { service: string }) {
  const [isOpened, { open, close }] = useDisclosure(false);
  const way = useChannel();
  const { channel, status } = useAgent();
  return (
    <>
      <Button variant="default" onClick={open}>
        Consume or serve…
      </Button>
      <Dialog title="Consume and serve from your machine" opened={isOpened} onClose={close}>
        {way.way === "none" && way.why === "away" ? (
          <Stack gap="sm">
            <Text size="sm">
              This browser is paired with <bdi>{way.pairing.name}</bdi>, and no way leads there now. My
              machine says why.
            </Text>
            <Button component={Link} to="/machine" onClick={close}>
              Go to My machine
            </Button>
          </Stack>
        ) : channel === "none" ? (
          <AtHub service={service} />
        ) : status === undefined ? (
          <Stack gap="sm">
            <Text size="sm">
              Services are consumed and served by the agent of this machine, and it does not run. This starts
              it:
            </Text>
            <Command>czctl start</Command>
          </Stack>
        ) : (
          <Stack gap="sm">
            <Text size="sm">
              The agent of this machine is{" "}
              {status.teamspace === null ? (
                "in no Teamspace"
              ) : (
                <>
                  in Teamspace <bdi>{status.teamspace.name}</bdi>
                </>
              )}
              , and not in this one. Choose this Teamspace for it first.
            </Text>
            <Button component={Link} to="/machine" onClick={close}>
              Go to My machine
            </Button>
          </Stack>
        )}
      </Dialog>
    </>
  );
}

function AtHub({ service }: { service: string }) {
  return (
    <Stack gap="sm">
      <Text size="sm">
        Services are consumed and served by the agent of your machine, and this page of the Hub reaches it
        when this browser is paired with it. On that machine, start the agent and pair:
      </Text>
      <Command>czctl start</Command>
      <Command>czctl pair</Command>
      <Text size="sm">Or open the same pages there, without the Hub in between:</Text>
      <Command>czctl ui</Command>
      <Text size="sm">Or do it in its terminal:</Text>
      <Command>{`echo '${service}' | czctl consume apply --append`}</Command>
      <Command>{`czctl serve ${service} --dry-run`}</Command>
    </Stack>
  );
}
