import { TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { hub, idempotencyKey, told } from "../api/hub";
import { Dialog, DialogForm } from "./FormDialog";
import { said } from "./index";

/** A dialog that makes an organization and goes there. */
export function CreateOrganizationDialog({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Dialog title="New organization" opened={opened} onClose={onClose}>
      <Create onDone={onClose} />
    </Dialog>
  );
}

function Create({ onDone }: { onDone: () => void }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [key] = useState(idempotencyKey);
  const form = useForm({
    initialValues: { name: "" },
    validate: { name: (name) => (name.trim() === "" ? "A name, such as that of your company" : null) },
  });
  const create = useMutation({
    mutationFn: (name: string) =>
      told(
        hub.POST("/api/v1/organizations", { params: { header: { "Idempotency-Key": key } }, body: { name } }),
      ),
    onSuccess: async (made) => {
      await client.invalidateQueries({ queryKey: ["session"] });
      onDone();
      said(`${made.name} is there, and you own it; next, make a Teamspace and invite your team`);
      await navigate({ to: "/o/$org/spaces", params: { org: made.id } });
    },
  });
  return (
    <DialogForm
      submit="Make it"
      change={create}
      onCancel={onDone}
      onSubmit={form.onSubmit(({ name }) => {
        create.mutate(name.trim());
      })}
    >
      <TextInput
        label="Name"
        description="Of your company or team. You are its owner, and can change the name later."
        maxLength={200}
        autoComplete="organization"
        required
        data-autofocus
        {...form.getInputProps("name")}
      />
    </DialogForm>
  );
}
