import { Badge, Box, Button, Divider, Group, Stack, Text } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Fragment, useState, type ReactNode } from "react";

import { hub, told } from "../../api/hub";
import type { Space } from "../../api/hub.generated";
import { AskFirst, refused, said } from "../../parts";
import { Section } from "../../parts/Section";
import { JoinSpace } from "./AddSpace";
import { useSpacesChanged } from "./queries";
import { meanwhile, RenameSpace } from "./RenameSpace";

/** What whoever manages Teamspaces does with one, each with what it means for others. */
export function Administration({
  organization,
  space,
  on,
}: {
  organization: string;
  space: Space;
  /** How many people are on; undefined where that is not known. */
  on: number | undefined;
}) {
  const [dialog, setDialog] = useState<"rename" | "join" | null>(null);
  const changed = useSpacesChanged(organization);
  const navigate = useNavigate();
  const path = { organization, space: space.id };
  const joined = space.certified_at !== null;
  const close = () => {
    setDialog(null);
  };
  const resume = useMutation({
    mutationFn: () =>
      told(hub.POST("/api/v1/organizations/{organization}/spaces/{space}/resume", { params: { path } })),
    onError: refused,
    onSuccess: async () => {
      said(`${space.name} can be used again`);
      await changed();
    },
  });
  const deeds: { title: string; about: ReactNode; action: ReactNode }[] = [
    {
      title: "Name",
      about: "What is open goes on. People and scripts type the new name from then on.",
      action: (
        <Button
          variant="default"
          onClick={() => {
            setDialog("rename");
          }}
        >
          Rename
        </Button>
      ),
    },
    {
      title: joined ? "Another cluster" : "Its cluster",
      about: joined
        ? "A cluster that joins by a new token takes the place of the present one. Name, policy and audit stay."
        : "A cluster joins by a token that is good once, for an hour.",
      action: (
        <Button
          variant="default"
          onClick={() => {
            setDialog("join");
          }}
        >
          {joined ? "Move it" : "Join a cluster"}
        </Button>
      ),
    },
    space.state === "suspended"
      ? {
          title: "Resume",
          about: "Everybody may use it again, as far as the policy lets them.",
          action: (
            <Button
              variant="default"
              loading={resume.isPending}
              onClick={() => {
                resume.mutate();
              }}
            >
              Resume
            </Button>
          ),
        }
      : {
          title: "Suspend",
          about: "Nobody consumes or serves there until you resume it. The cluster stays joined.",
          action: (
            <AskFirst
              label="Suspend"
              title={`Suspend ${space.name}?`}
              action={() =>
                told(
                  hub.POST("/api/v1/organizations/{organization}/spaces/{space}/suspend", {
                    params: { path },
                  }),
                )
              }
              onDone={() => {
                said(`${space.name} is suspended`);
                void changed();
              }}
            >
              {whoIsConcerned(on)} What is open there ends within seconds, and services are answered by their
              own pods again. You can resume it at any time.
            </AskFirst>
          ),
        },
  ];
  if (joined)
    deeds.push({
      title: "Keys",
      about:
        "Its cluster makes itself another key; the Hub believes the present one no more. What is open stays open.",
      action: space.rotating ? (
        <Badge variant="light" tt="none" radius="sm">
          Waits for the new key
        </Badge>
      ) : (
        <AskFirst
          label="Rotate"
          title={`Rotate the keys of ${space.name}?`}
          color="sea"
          action={() =>
            told(hub.POST("/api/v1/organizations/{organization}/spaces/{space}/rotate", { params: { path } }))
          }
          onDone={() => {
            said(`${space.name} makes itself another key as soon as it hears of it`);
            void changed();
          }}
        >
          Routers and laptops come back by the new key by themselves. After a theft of the key this is not
          enough: laptops believe a stolen one until its certificate ends, for 30 days at most. Remove the
          Teamspace then, and make another one.
        </AskFirst>
      ),
    });
  deeds.push({
    title: "Remove",
    about: "The Hub believes its cluster no more. Its policy goes with it; the audit stays.",
    action: (
      <AskFirst
        label="Remove"
        title={`Remove ${space.name}?`}
        type={space.name}
        variant="outline"
        action={() =>
          told(
            hub.DELETE("/api/v1/organizations/{organization}/spaces/{space}", {
              params: { path, header: { "if-match": `"${String(space.version)}"` } },
            }),
          ).catch((error: unknown) => {
            throw meanwhile(error, () => void changed());
          })
        }
        onDone={() => {
          said(`${space.name} is removed; in its cluster, czctl teamspace uninstall takes it away`);
          void navigate({ to: "/o/$org/spaces", params: { org: organization } }).then(changed);
        }}
      >
        {whoIsConcerned(on)} What is open there ends, for all members. It cannot be taken back: a Teamspace of
        the same name is another one. What is installed in the cluster stays there until{" "}
        <b>czctl teamspace uninstall</b>.
      </AskFirst>
    ),
  });
  return (
    <Section title="Administration">
      <Stack gap="sm">
        {deeds.map((deed, number) => (
          <Fragment key={deed.title}>
            {number > 0 && <Divider />}
            <Group justify="space-between" wrap="nowrap" gap="lg">
              <Box miw={0}>
                <Text size="sm" fw={500}>
                  {deed.title}
                </Text>
                <Text size="sm">{deed.about}</Text>
              </Box>
              <Box style={{ flexShrink: 0 }}>{deed.action}</Box>
            </Group>
          </Fragment>
        ))}
      </Stack>
      <RenameSpace organization={organization} space={space} opened={dialog === "rename"} onClose={close} />
      <JoinSpace organization={organization} space={space} opened={dialog === "join"} onClose={close} />
    </Section>
  );
}

function whoIsConcerned(on: number | undefined): string {
  if (on === undefined) return "It concerns all who are on.";
  if (on === 0) return "Nobody is on at the moment.";
  return on === 1 ? "One person is on at the moment." : `${String(on)} people are on at the moment.`;
}
