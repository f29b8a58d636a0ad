import { Badge, Button } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { hub, told } from "../../api/hub";
import type { Space } from "../../api/hub.generated";
import { AskFirst, refused, said } from "../../parts";
import { Deed, Deeds } from "../../parts/Deed";
import { Section } from "../../parts/Section";
import { JoinSpace } from "./AddSpace";
import { useSpacesChanged } from "./queries";
import { meanwhile, RenameSpace } from "./RenameSpace";

interface Managed {
  organization: string;
  space: Space;
}

/** What whoever manages Teamspaces does with one, each with what it means for others. `on` people are there; undefined where that is not known. */
export function Administration({ organization, space, on }: Managed & { on: number | undefined }) {
  const concerned = whoIsConcerned(on);
  const managed = { organization, space };
  return (
    <Section title="Administration">
      <Deeds>
        <Naming {...managed} />
        <Clustering {...managed} />
        {space.state === "suspended" ? (
          <Resumption {...managed} />
        ) : (
          // Nobody can be where no cluster is.
          space.certified_at !== null && <Suspension {...managed} concerned={concerned} />
        )}
        {space.certified_at !== null && <Rotation {...managed} />}
        <Removal {...managed} concerned={concerned} />
      </Deeds>
    </Section>
  );
}

function Naming(managed: Managed) {
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <Deed title="Name" about="What is open goes on. People and scripts type the new name from then on.">
      <Button variant="default" onClick={open}>
        Rename
      </Button>
      <RenameSpace {...managed} opened={opened} onClose={close} />
    </Deed>
  );
}

function Clustering(managed: Managed) {
  const [opened, { open, close }] = useDisclosure(false);
  const joined = managed.space.certified_at !== null;
  return (
    <Deed
      title={joined ? "Another cluster" : "Its cluster"}
      about={
        joined
          ? "A cluster that joins by a new token takes the place of the present one. Name, policy and audit stay."
          : "A cluster joins by a token that is good once, for an hour."
      }
    >
      <Button variant="default" onClick={open}>
        {joined ? "Move it" : "Join a cluster"}
      </Button>
      <JoinSpace {...managed} opened={opened} onClose={close} />
    </Deed>
  );
}

function Suspension({ organization, space, concerned }: Managed & { concerned: string }) {
  const changed = useSpacesChanged(organization);
  return (
    <Deed
      title="Suspend"
      about="Nobody consumes or serves there until you resume it. The cluster stays joined."
    >
      <AskFirst
        label="Suspend"
        title={`Suspend ${space.name}?`}
        action={() =>
          told(
            hub.POST("/api/v1/organizations/{organization}/spaces/{space}/suspend", {
              params: { path: { organization, space: space.id } },
            }),
          )
        }
        onDone={() => {
          said(`${space.name} is suspended`);
          void changed();
        }}
      >
        {concerned} What is open there ends within seconds, and services are answered by their own pods again.
        You can resume it at any time.
      </AskFirst>
    </Deed>
  );
}

function Resumption({ organization, space }: Managed) {
  const changed = useSpacesChanged(organization);
  const resume = useMutation({
    mutationFn: () =>
      told(
        hub.POST("/api/v1/organizations/{organization}/spaces/{space}/resume", {
          params: { path: { organization, space: space.id } },
        }),
      ),
    onError: refused,
    onSuccess: async () => {
      said(`${space.name} can be used again`);
      await changed();
    },
  });
  return (
    <Deed title="Resume" about="Everybody may use it again, as far as the policy lets them.">
      <Button
        variant="default"
        loading={resume.isPending}
        onClick={() => {
          resume.mutate();
        }}
      >
        Resume
      </Button>
    </Deed>
  );
}

function Rotation({ organization, space }: Managed) {
  const changed = useSpacesChanged(organization);
  return (
    <Deed
      title="Keys"
      about="Its cluster makes itself another key; the Hub believes the present one no more. What is open stays open."
    >
      {space.rotating ? (
        <Badge variant="default" tt="none" radius="sm">
          Waits for the new key
        </Badge>
      ) : (
        <AskFirst
          label="Rotate"
          title={`Rotate the keys of ${space.name}?`}
          color="sea"
          action={() =>
            told(
              hub.POST("/api/v1/organizations/{organization}/spaces/{space}/rotate", {
                params: { path: { organization, space: space.id } },
              }),
            )
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
      )}
    </Deed>
  );
}

function Removal({ organization, space, concerned }: Managed & { concerned: string }) {
  const changed = useSpacesChanged(organization);
  const navigate = useNavigate();
  return (
    <Deed
      title="Remove"
      about="The Hub believes its cluster no more. Its policy goes with it; the audit stays."
    >
      <AskFirst
        label="Remove"
        title={`Remove ${space.name}?`}
        type={space.name}
        action={() =>
          told(
            hub.DELETE("/api/v1/organizations/{organization}/spaces/{space}", {
              params: {
                path: { organization, space: space.id },
                header: { "if-match": `"${String(space.version)}"` },
              },
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
        {concerned} What is open there ends, for all members. It cannot be taken back: a Teamspace of the same
        name is another one. What is installed in the cluster stays there until{" "}
        <b>czctl teamspace uninstall</b>.
      </AskFirst>
    </Deed>
  );
}

function whoIsConcerned(on: number | undefined): string {
  if (on === undefined) return "It concerns all who are on.";
  if (on === 0) return "Nobody is on at the moment.";
  return on === 1 ? "One person is on at the moment." : `${String(on)} people are on at the moment.`;
}
