import { Box, Button, Group, Stack, Table, Text, VisuallyHidden } from "@mantine/core";
import { IconBrowser, IconTerminal2 } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { hub, told } from "../../api/hub";
import type { OwnSession } from "../../api/hub.generated";
import { where } from "../../api/where";
import { AskFirst, said, Shown, When } from "../../parts";
import { Mark } from "../../parts/Mark";
import { Section } from "../../parts/Section";
import { goToSignIn } from "../../session/session";
import { browserOf } from "./browser";

// Those used last; there may be many where people use private windows.
const FIRST = 8;
const KEY = ["hub", "self", "sessions"];

/** Where one is signed in, and an end to that. */
export function Places() {
  const [isWhole, setWhole] = useState(false);
  const query = useQuery({
    queryKey: KEY,
    refetchInterval: 30_000,
    queryFn: () => told(hub.GET("/api/v1/auth/sessions")),
  });
  return (
    <Section
      title="Where you are signed in"
      about="Browsers, and machines by czctl. End what you do not know, and change your password."
      action={<Everywhere />}
    >
      <Shown query={query} rows={2}>
        {({ items }) =>
          items.length === 0 ? (
            <Text size="sm">Nowhere but by the API key that this page uses.</Text>
          ) : (
            <Table.ScrollContainer minWidth={560} type="native">
              <Table horizontalSpacing={0}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>Where</Table.Th>
                    <Table.Th w={140}>Last used</Table.Th>
                    <Table.Th w={140}>Ends</Table.Th>
                    <Table.Th w={100}>
                      <VisuallyHidden>Actions</VisuallyHidden>
                    </Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {(isWhole ? items : items.slice(0, FIRST)).map((place) => (
                    <Place key={place.id} place={place} />
                  ))}
                </Table.Tbody>
              </Table>
              {!isWhole && items.length > FIRST && (
                <Button
                  mt="sm"
                  size="xs"
                  variant="subtle"
                  onClick={() => {
                    setWhole(true);
                  }}
                >
                  Show all {items.length}
                </Button>
              )}
            </Table.ScrollContainer>
          )
        }
      </Shown>
    </Section>
  );
}

function nameOf(place: OwnSession): string {
  return place.kind === "browser" ? browserOf(place.name) : place.name;
}

function Place({ place }: { place: OwnSession }) {
  const name = nameOf(place);
  const Icon = place.kind === "browser" ? IconBrowser : IconTerminal2;
  return (
    <Table.Tr>
      <Table.Td>
        <Group gap="sm" wrap="nowrap">
          <Icon size={20} stroke={1.5} aria-hidden style={{ flexShrink: 0 }} />
          <Stack gap={0} miw={0}>
            <Group gap="xs">
              <Text size="sm" title={place.name} style={{ overflowWrap: "anywhere" }}>
                <bdi>{name}</bdi>
              </Text>
              {place.is_this && <Mark>This one</Mark>}
            </Group>
            <Text size="xs" c="dimmed">
              {place.kind === "browser" ? "browser" : "czctl"}
              {place.address !== null && ` from ${place.address}`}, since <When at={place.created_at} />
            </Text>
          </Stack>
        </Group>
      </Table.Td>
      <Table.Td>
        <When at={place.last_used_at} />
      </Table.Td>
      <Table.Td>
        <When at={place.expires_at} />
      </Table.Td>
      <Table.Td ta="right">
        <End place={place} />
      </Table.Td>
    </Table.Tr>
  );
}

/** Whoever has ended the sign-in by which this page came has nothing more to see here. */
function useSignedOut(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    if (where().served_by === "hub") goToSignIn();
    else await client.invalidateQueries({ queryKey: ["session"] });
  };
}

function End({ place }: { place: OwnSession }) {
  const client = useQueryClient();
  const signedOut = useSignedOut();
  const name = nameOf(place);
  return (
    <AskFirst
      label="End"
      size="xs"
      title={place.is_this ? "Sign out here?" : `End the sign-in of ${name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/auth/sessions/{session}", { params: { path: { session: place.id } } });
        if (place.is_this) await signedOut();
        else await client.invalidateQueries({ queryKey: KEY });
      }}
      onDone={() => {
        if (!place.is_this) said(`${name} is signed out`);
      }}
    >
      {place.is_this ? (
        "This is where you are now."
      ) : (
        <>
          <bdi>{name}</bdi> has to sign in again.
        </>
      )}{" "}
      {place.kind === "device" && "What it consumes and serves ends within 5 seconds."}
    </AskFirst>
  );
}

function Everywhere() {
  const signedOut = useSignedOut();
  return (
    <Box style={{ flexShrink: 0 }}>
      <AskFirst
        label="Sign out everywhere"
        size="xs"
        title="Sign out everywhere?"
        action={async () => {
          await hub.POST("/api/v1/auth/sign-out-everywhere");
          await signedOut();
        }}
      >
        All your browsers and machines have to sign in again, this one as well. What your machines consume and
        serve ends within 5 seconds.
      </AskFirst>
    </Box>
  );
}
