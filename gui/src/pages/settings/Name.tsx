import { Button, Group, Stack, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useEffect } from "react";

import type { Organization } from "../../api/hub.generated";
import { ProblemAlert, said } from "../../parts";
import { useOrganizationChange } from "./change";

/** A form for the name of the organization. */
export function Name({
  organization,
  onTyped,
}: {
  organization: Organization;
  onTyped: (isTyped: boolean) => void;
}) {
  const form = useForm({
    initialValues: { name: organization.name },
    validate: { name: (name) => (name.trim() === "" ? "It needs a name" : null) },
  });
  const change = useOrganizationChange(organization, () => {
    said("The organization has its new name");
    onTyped(false);
  });
  const isTyped = form.values.name.trim() !== organization.name;
  useEffect(() => {
    onTyped(isTyped);
  }, [isTyped, onTyped]);
  return (
    <form
      noValidate
      onSubmit={form.onSubmit(({ name }) => {
        change.mutate({ name: name.trim() });
      })}
    >
      <Stack gap="md">
        <Group align="flex-end" gap="sm">
          <TextInput label="Name" flex={1} maxLength={200} required {...form.getInputProps("name")} />
          <Button type="submit" loading={change.isPending} disabled={!isTyped}>
            Rename
          </Button>
        </Group>
        {change.error !== null && <ProblemAlert error={change.error} />}
      </Stack>
    </form>
  );
}
