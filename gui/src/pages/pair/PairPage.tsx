import { Alert, Button, Group, List, Loader, Stack, Text } from "@mantine/core";
import { IconCircleCheck, IconInfoCircle, IconPlugConnected } from "@tabler/icons-react";
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";

import { where } from "../../api/where";
import { useChannel } from "../../channel/channel";
import { connectedMachines } from "../../channel/machines";
import { dropOffer, useOffer, type Offer } from "../../channel/offer";
import type { Pairing } from "../../channel/pairing";
import { pairUp } from "../../channel/pairUp";
import { loopbackPermission } from "../../channel/permission";
import type { Way } from "../../channel/ways";
import { WAYS } from "../../channel/words";
import { Command, Nothing, PageHead, ProblemAlert, When } from "../../parts";
import { Facts } from "../../parts/Facts";
import { Section } from "../../parts/Section";
import { useSession } from "../../session/session";
import { browserOf } from "../account/browser";
import { CatalogLink } from "../machine/CatalogLink";

/** Where `czctl pair` leads to: one button, and what it means. */
export function PairPage() {
  const offer = useOffer();
  const { me } = useSession();
  const [made, setMade] = useState<Pairing>();
  if (where().served_by === "console")
    return (
      <>
        <PageHead title="Pair this browser" />
        <Nothing
          title="The local console needs no pairing"
          action={
            <Button component={Link} to="/machine">
              Go to My machine
            </Button>
          }
        >
          It is on the machine already. Pairing is for the pages of the Hub.
        </Nothing>
      </>
    );
  if (offer !== null && me !== null)
    return <Offered key={offer.code} offer={offer} user={me.user.id} onPaired={setMade} />;
  return made === undefined ? <NoOffer /> : <Paired pairing={made} />;
}

function NoOffer() {
  return (
    <>
      <PageHead title="Pair this browser" />
      <Stack maw={760}>
        <Section
          title="It begins on the machine"
          about="In a terminal of the machine that has the agent, this opens the page with a code that is good once:"
        >
          <Command>czctl pair</Command>
          <Text size="sm">
            The address that it prints has the code in it, and leads here once. An address that was used or
            opened before is no good any more.
          </Text>
        </Section>
      </Stack>
    </>
  );
}

function Offered({
  offer,
  user,
  onPaired,
}: {
  offer: Offer;
  user: string;
  onPaired: (pairing: Pairing) => void;
}) {
  const channel = useChannel();
  const [way, setWay] = useState<Way>();
  const notDirect = useRef(new AbortController());
  useEffect(
    () => () => {
      notDirect.current.abort();
    },
    [],
  );
  const permission = useQuery({
    queryKey: ["browser", "loopback"],
    queryFn: loopbackPermission,
    staleTime: 0,
  });
  const machines = useQuery({ queryKey: ["hub", "self", "machines"], queryFn: () => connectedMachines() });
  const machine = machines.data?.find((one) => one.machine === offer.machine);
  const pairing = useMutation({
    mutationFn: () => {
      notDirect.current = new AbortController();
      return pairUp({
        offer,
        user,
        name: browserOf(navigator.userAgent).slice(0, 100),
        onWay: setWay,
        notDirect: notDirect.current.signal,
      });
    },
    onSuccess: (made) => {
      onPaired(made);
      dropOffer();
    },
    onSettled: () => {
      setWay(undefined);
    },
  });
  return (
    <>
      <PageHead
        title="Pair this browser"
        about="With the machine on which you have just typed czctl pair. If that was not you, close this page."
      />
      <Stack gap="lg" maw={760}>
        <Section title="What it may do then">
          <List size="sm" spacing={4}>
            <List.Item>
              see how the agent of that machine is, and the requests and connections of the machine as they
              end
            </List.Item>
            <List.Item>
              consume and serve, and end that; not where you paired by <code>czctl pair --read-only</code>
            </List.Item>
            <List.Item>
              serve a service from a port of that machine, when you have confirmed it once in a terminal there
            </List.Item>
            <List.Item>
              what touches the requests of others, and what moves the machine to another Teamspace, when you
              confirm it there each time
            </List.Item>
          </List>
          <Text size="sm">
            It runs no programs, reads no files, and sees no keys. It is for this browser alone while you are
            signed in here, and ends after 30 days or by <code>czctl pairing revoke</code>.
          </Text>
        </Section>
        <Section title="The machine">
          <Facts
            facts={[
              ["Name", machine === undefined ? null : <bdi key="name">{machine.name}</bdi>],
              ["Id", <code key="id">{offer.machine}</code>],
              ["Directly", `at 127.0.0.1:${String(offer.port)}, where this browser is on the machine`],
              [
                "Through the Hub",
                machines.data === undefined
                  ? machines.isPending
                    ? "asking"
                    : "not known"
                  : machine === undefined
                    ? "not connected"
                    : "connected",
              ],
              [
                "Paired before",
                "pairing" in channel ? (
                  <>
                    with <bdi>{channel.pairing.name}</bdi>, which this takes the place of
                  </>
                ) : null,
              ],
            ]}
          />
          {permission.data !== undefined && permission.data !== "granted" && (
            <Alert color="blue" icon={<IconInfoCircle aria-hidden />} p="sm">
              <Text size="sm">
                {permission.data === "denied"
                  ? "Your browser does not let this page reach programs of your own machine, so it is asked through the Hub."
                  : "Your browser may ask now whether this page may reach apps or devices on your local network. Yes lets it ask your machine directly. No is fine, too: then it goes through the Hub."}
              </Text>
            </Alert>
          )}
          {pairing.error !== null && <ProblemAlert error={pairing.error} />}
          <Group>
            <Button
              leftSection={<IconPlugConnected size={16} aria-hidden />}
              loading={pairing.isPending}
              onClick={() => {
                pairing.mutate();
              }}
            >
              Pair this browser
            </Button>
            {way !== undefined && (
              <Group gap="xs" role="status">
                <Loader size="xs" aria-hidden />
                <Text size="sm">Asking the machine {WAYS[way]}</Text>
              </Group>
            )}
            {way === "direct" && (
              <Button
                variant="default"
                onClick={() => {
                  notDirect.current.abort();
                }}
              >
                Go through the Hub instead
              </Button>
            )}
          </Group>
        </Section>
      </Stack>
    </>
  );
}

function Paired({ pairing }: { pairing: Pairing }) {
  const channel = useChannel();
  return (
    <>
      <PageHead title="This browser is paired" />
      <Stack gap="lg" maw={760}>
        <Alert color="teal" icon={<IconCircleCheck aria-hidden />} p="sm" role="status">
          <Text size="sm">
            It is paired with{" "}
            <b>
              <bdi>{pairing.name}</bdi>
            </b>
            {channel.way === "direct" || channel.way === "relay" ? ", and asks it " : "; it is "}
            {WAYS[channel.way]}
            {!pairing.acts && ", reading only"}. The pairing ends <When at={pairing.expiresAt} />. You can
            close the terminal.
          </Text>
        </Alert>
        <Group gap="lg">
          <Button component={Link} to="/machine">
            Go to My machine
          </Button>
          <CatalogLink>Open the catalog</CatalogLink>
        </Group>
      </Stack>
    </>
  );
}
