import { Alert, Button, Group, Loader, Stack, Text } from "@mantine/core";
import { IconShieldCheck, IconShieldX } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { useEffect } from "react";

import { hub, told } from "../../api/hub";
import type { AuditVerified } from "../../api/hub.generated";
import { ProblemAlert } from "../../parts";
import { Dialog } from "../../parts/FormDialog";
import { useOrganization } from "../../session/session";

/** A dialog that has the whole audit verified, and says what came out. */
export function VerifyDialog({
  opened,
  onClose,
  onShow,
}: {
  opened: boolean;
  onClose: () => void;
  onShow: (number: number) => void;
}) {
  return (
    <Dialog title="Verify the audit" opened={opened} onClose={onClose} size="lg">
      <Verify onDone={onClose} onShow={onShow} />
    </Dialog>
  );
}

function Verify({ onDone, onShow }: { onDone: () => void; onShow: (number: number) => void }) {
  const organization = useOrganization().id;
  const { mutate, data, error, isIdle, isPending } = useMutation({
    mutationFn: () =>
      told(
        hub.POST("/api/v1/organizations/{organization}/audit/verify", {
          params: { path: { organization } },
        }),
      ),
  });
  useEffect(() => {
    mutate();
  }, [mutate]);
  return (
    <Stack gap="md">
      {(isPending || isIdle) && (
        <Group gap="sm" role="status" wrap="nowrap">
          <Loader size="sm" />
          <Text size="sm">
            The Hub reads each entry and compares it with the one before. Of millions that takes minutes.
          </Text>
        </Group>
      )}
      {error !== null && (
        <ProblemAlert
          error={error}
          again={() => {
            mutate();
          }}
        />
      )}
      {data !== undefined && <Result told={data} onShow={onShow} />}
      <Group justify="flex-end">
        <Button variant="default" onClick={onDone}>
          Close
        </Button>
      </Group>
    </Stack>
  );
}

function Result({ told: found, onShow }: { told: AuditVerified; onShow: (number: number) => void }) {
  if (found.ok && found.entries === 0)
    return <Text size="sm">There is no entry yet, so there is nothing that could have been changed.</Text>;
  if (found.ok)
    return (
      <Alert color="teal" icon={<IconShieldCheck aria-hidden />} title="It is whole" role="status">
        <Text size="sm">
          All {found.entries.toLocaleString("en")} entries from {found.first} to {found.last} are those that
          were written, in their order. None was changed, left out or added.
        </Text>
        <Text size="sm" mt="xs">
          Whether the whole audit was written anew, exports that somebody keeps elsewhere show: their
          checkpoints are signed.
        </Text>
      </Alert>
    );
  const { broken } = found;
  return (
    <Alert color="red" icon={<IconShieldX aria-hidden />} title="It is not what was written" role="alert">
      <Stack gap="xs" align="flex-start">
        <Text size="sm">
          Entry {broken} {found.reason ?? "does not fit"}. All before it are those that were written.
        </Text>
        <Text size="sm">
          Somebody who can write to the Hub's database has changed it, or it is damaged. Compare with your
          last export, and tell whoever runs the Hub.
        </Text>
        {broken !== null && (
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              onShow(broken);
            }}
          >
            Show entry {broken}
          </Button>
        )}
      </Stack>
    </Alert>
  );
}
