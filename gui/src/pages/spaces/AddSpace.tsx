import { Button, Divider, Group, Modal, Stack, Text, TextInput, Title } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { hub, idempotencyKey, told } from "../../api/hub";
import type { Invited, Space } from "../../api/hub.generated";
import { asProblem } from "../../api/problem";
import { ProblemAlert, Shown } from "../../parts";
import { InstallSteps } from "./InstallSteps";
import { JoinSteps } from "./JoinSteps";
import { useSpace, useSpacesChanged } from "./queries";
import { nameProblem, progressOf } from "./words";

const WATCH_MS = 3000;
const ALREADY_THERE = "CZ-HUB-006";

interface Handle {
  organization: string;
  opened: boolean;
  onClose: () => void;
}

/** From a name to a Teamspace whose cluster is there. */
export function AddSpace({ organization, opened, onClose }: Handle) {
  const [invited, setInvited] = useState<Invited | null>(null);
  const close = () => {
    onClose();
  };
  return (
    <Modal
      opened={opened}
      onClose={close}
      onExitTransitionEnd={() => {
        setInvited(null);
      }}
      title={invited === null ? "Add a Teamspace" : `Let a cluster become ${invited.name}`}
      size="lg"
      centered
      closeOnClickOutside={invited === null}
    >
      {invited === null ? (
        <NameStep organization={organization} onMade={setInvited} onCancel={close} />
      ) : (
        <Joining organization={organization} invited={invited} onClose={close} />
      )}
    </Modal>
  );
}

function NameStep({
  organization,
  onMade,
  onCancel,
}: {
  organization: string;
  onMade: (invited: Invited) => void;
  onCancel: () => void;
}) {
  const [key, setKey] = useState(idempotencyKey);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const changed = useSpacesChanged(organization);
  const form = useForm({
    initialValues: { name: "" },
    validate: { name: nameProblem },
    // The same key again is the same Teamspace again: another name is another intention.
    onValuesChange: () => {
      setKey(idempotencyKey());
    },
  });
  const make = async ({ name }: { name: string }) => {
    setBusy(true);
    setError(null);
    try {
      const made = await told(
        hub.POST("/api/v1/organizations/{organization}/spaces", {
          params: { path: { organization }, header: { "Idempotency-Key": key } },
          body: { name },
        }),
      );
      void changed();
      onMade(made);
    } catch (problem) {
      if (asProblem(problem).code === ALREADY_THERE)
        form.setFieldError("name", `There is a Teamspace ${name} already; choose another name`);
      else setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form onSubmit={form.onSubmit((values) => void make(values))}>
      <Stack gap="md">
        <Text size="sm">
          A Teamspace is one Kubernetes cluster that people consume from and serve into. It begins with the
          policy of new Teamspaces.
        </Text>
        <TextInput
          label="Name"
          description="What people type: lower-case letters, digits and hyphens. It can be changed later."
          placeholder="shop"
          autoComplete="off"
          spellCheck={false}
          data-autofocus
          {...form.getInputProps("name")}
        />
        {error !== null && <ProblemAlert error={error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={onCancel}>
            Cancel
          </Button>
          <Button type="submit" loading={busy}>
            Create
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

/** The commands, and how far the cluster is. */
function Joining({
  organization,
  invited,
  onClose,
}: {
  organization: string;
  invited: Invited;
  onClose: () => void;
}) {
  const query = useSpace(organization, invited.id, WATCH_MS);
  const navigate = useNavigate();
  return (
    <Stack gap="lg">
      <InstallSteps invited={invited} />
      <Divider />
      <Title order={3}>What happens</Title>
      <Shown query={query} rows={3}>
        {(space) => (
          <>
            <JoinSteps space={space} before={invited.certified_at} />
            <Group justify="space-between" align="center">
              <Text size="sm" c="dimmed" flex={1}>
                {progressOf(space, invited.certified_at).joined
                  ? ""
                  : "You may close this: the cluster joins all the same. What happens is shown from its row."}
              </Text>
              <Button
                variant={progressOf(space, invited.certified_at).joined ? "filled" : "default"}
                onClick={() => {
                  onClose();
                  void navigate({
                    to: "/o/$org/spaces/$space",
                    params: { org: organization, space: invited.id },
                  });
                }}
              >
                Go to the Teamspace
              </Button>
            </Group>
          </>
        )}
      </Shown>
    </Stack>
  );
}

/** A cluster for a Teamspace that is there: how far it is, and another token, for the one before was shown once. */
export function JoinSpace({ organization, space, opened, onClose }: Handle & { space: Space }) {
  const [invited, setInvited] = useState<Invited | null>(null);
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      onExitTransitionEnd={() => {
        setInvited(null);
      }}
      title={`Let a cluster become ${space.name}`}
      size="lg"
      centered
      closeOnClickOutside={invited === null}
    >
      {invited === null ? (
        <NewToken organization={organization} space={space} onMade={setInvited} />
      ) : (
        <Joining organization={organization} invited={invited} onClose={onClose} />
      )}
    </Modal>
  );
}

function NewToken({
  organization,
  space,
  onMade,
}: {
  organization: string;
  space: Space;
  onMade: (invited: Invited) => void;
}) {
  const [key] = useState(idempotencyKey);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const query = useSpace(organization, space.id, WATCH_MS);
  const changed = useSpacesChanged(organization);
  const isNew = space.certified_at === null;
  const make = async () => {
    setBusy(true);
    setError(null);
    try {
      const made = await told(
        hub.POST("/api/v1/organizations/{organization}/spaces/{space}/join-token", {
          params: { path: { organization, space: space.id }, header: { "Idempotency-Key": key } },
        }),
      );
      void changed();
      onMade(made);
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Stack gap="md">
      {isNew && (
        <Shown query={query} rows={3}>
          {(now) => <JoinSteps space={now} before={null} />}
        </Shown>
      )}
      <Text size="sm">
        {isNew
          ? "The join token was shown once and is good for an hour. Is it lost or late, make another one: the one before is good no more then."
          : "A cluster that joins by a new token takes the place of the present one: the present one is believed no more, and what is open there ends. Name, policy and audit stay. The present cluster stays as it is until another one has joined."}
      </Text>
      {error !== null && <ProblemAlert error={error} />}
      <Group justify="flex-end">
        <Button
          onClick={() => void make()}
          loading={busy}
          variant={isNew ? "default" : "filled"}
          data-autofocus
        >
          Make a join token
        </Button>
      </Group>
    </Stack>
  );
}
