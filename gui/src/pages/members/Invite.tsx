import { List, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { hub, idempotencyKey, told } from "../../api/hub";
import type { InvitationMade, Role } from "../../api/hub.generated";
import { When } from "../../parts";
import { Dialog, DialogForm } from "../../parts/FormDialog";
import { useReadAnew } from "../../parts/members";
import { RoleChoice } from "../../parts/RoleChoice";
import { givable, ROLES } from "../../parts/roles";
import { ToldOnce } from "../../parts/ToldOnce";
import { useOrganization } from "../../session/session";

/** A dialog that invites somebody, and then tells the link for them. */
export function InviteDialog({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  const [isTold, setTold] = useState(false);
  const close = () => {
    setTold(false);
    onClose();
  };
  return (
    <Dialog title="Invite somebody" opened={opened} onClose={close} size="lg" careful={isTold}>
      <Invite
        onDone={close}
        onTold={() => {
          setTold(true);
        }}
      />
    </Dialog>
  );
}

function Invite({ onDone, onTold }: { onDone: () => void; onTold: () => void }) {
  const organization = useOrganization();
  const readAnew = useReadAnew();
  const [key] = useState(idempotencyKey);
  const roles = givable(organization.permissions, "person");
  const form = useForm<{ email: string; role: Role }>({
    initialValues: { email: "", role: "developer" },
    validate: {
      email: (email) =>
        /^[^\s@]+@[^\s@]+$/.test(email.trim()) ? null : "An e-mail address, such as bob@example.org",
    },
  });
  const invite = useMutation({
    mutationFn: (body: InvitationMade) =>
      told(
        hub.POST("/api/v1/organizations/{organization}/invitations", {
          params: {
            path: { organization: organization.id },
            header: { "Idempotency-Key": key },
          },
          body,
        }),
      ),
    onSuccess: async () => {
      onTold();
      await readAnew("invitations");
    },
  });
  if (invite.data !== undefined)
    return (
      <ToldOnce what="This link" value={invite.data.link} copy="Copy the link" onDone={onDone}>
        <List size="sm" spacing={6}>
          <List.Item>
            Give it to <bdi>{invite.data.email}</bdi>, by a way that only they read: the Hub sends no mail.
          </List.Item>
          <List.Item>
            Whoever opens it signs in, or chooses a name and a password, and is{" "}
            {ROLES[invite.data.role].title.toLowerCase()} of <bdi>{organization.name}</bdi>.
          </List.Item>
          <List.Item>
            It is good once, and ends <When at={invite.data.expires_at} />. Until then you can revoke it under
            Invitations.
          </List.Item>
        </List>
      </ToldOnce>
    );
  return (
    <DialogForm
      submit="Invite"
      change={invite}
      onCancel={onDone}
      onSubmit={form.onSubmit(({ email, role }) => {
        invite.mutate({ email: email.trim(), role });
      })}
    >
      <TextInput
        label="E-mail address"
        description="Of the account that they sign in with, or will."
        type="email"
        autoComplete="off"
        maxLength={254}
        required
        data-autofocus
        {...form.getInputProps("email")}
      />
      <RoleChoice label="What they will be" roles={roles} {...form.getInputProps("role")} />
    </DialogForm>
  );
}
