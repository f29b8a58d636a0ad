import { TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { hub, idempotencyKey, told } from "../../api/hub";
import type { Role, ServiceAccountMade } from "../../api/hub.generated";
import { said } from "../../parts";
import { DialogForm } from "../../parts/FormDialog";
import { useReadAnew } from "../../parts/members";
import { RoleChoice } from "../../parts/RoleChoice";
import { givable } from "../../parts/roles";
import { useOrganization } from "../../session/session";

/** A form that makes an account for a program. */
export function MakeAccount({ onDone }: { onDone: () => void }) {
  const organization = useOrganization();
  const readAnew = useReadAnew();
  const [key] = useState(idempotencyKey);
  const form = useForm<{ name: string; role: Role }>({
    initialValues: { name: "", role: "ci" },
    validate: { name: (name) => (name.trim() === "" ? "A name, such as nightly-tests" : null) },
  });
  const make = useMutation({
    mutationFn: (body: ServiceAccountMade) =>
      told(
        hub.POST("/api/v1/organizations/{organization}/service-accounts", {
          params: { path: { organization: organization.id }, header: { "Idempotency-Key": key } },
          body,
        }),
      ),
    onSuccess: async (made) => {
      await readAnew("service-accounts", "members");
      said(`The service account ${made.name} is there; next, make a key for it`);
      onDone();
    },
  });
  return (
    <DialogForm
      submit="Make it"
      change={make}
      onCancel={onDone}
      onSubmit={form.onSubmit(({ name, role }) => {
        make.mutate({ name: name.trim(), role });
      })}
    >
      <TextInput
        label="Name"
        description="Shown wherever it consumes, serves and changes something."
        maxLength={200}
        autoComplete="off"
        required
        data-autofocus
        {...form.getInputProps("name")}
      />
      <RoleChoice
        label="What it is"
        roles={givable(organization.permissions, "service")}
        {...form.getInputProps("role")}
      />
    </DialogForm>
  );
}
