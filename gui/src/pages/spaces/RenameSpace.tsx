import { Stack, Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";
import type { Space } from "../../api/hub.generated";
import { asProblem, Problem } from "../../api/problem";
import { said } from "../../parts";
import { Dialog, DialogForm } from "../../parts/FormDialog";
import { useSpacesChanged } from "./queries";
import { nameProblem } from "./words";

/** Another name for a Teamspace. */
export function RenameSpace({
  organization,
  space,
  opened,
  onClose,
}: {
  organization: string;
  space: Space;
  opened: boolean;
  onClose: () => void;
}) {
  return (
    <Dialog title={`Rename ${space.name}`} opened={opened} onClose={onClose}>
      <RenameForm organization={organization} space={space} onClose={onClose} />
    </Dialog>
  );
}

function RenameForm({
  organization,
  space,
  onClose,
}: {
  organization: string;
  space: Space;
  onClose: () => void;
}) {
  const changed = useSpacesChanged(organization);
  const form = useForm({ initialValues: { name: space.name }, validate: { name: nameProblem } });
  const rename = useMutation({
    mutationFn: ({ name }: { name: string }) =>
      told(
        hub.PATCH("/api/v1/organizations/{organization}/spaces/{space}", {
          params: {
            path: { organization, space: space.id },
            header: { "if-match": `"${String(space.version)}"` },
          },
          body: { name },
        }),
      ).catch((error: unknown) => {
        throw meanwhile(error, () => void changed());
      }),
    onSuccess: async ({ name }) => {
      said(`It is called ${name} now`);
      onClose();
      await changed();
    },
  });
  return (
    <DialogForm
      submit="Rename"
      change={rename}
      onCancel={onClose}
      onSubmit={form.onSubmit((values) => {
        rename.mutate(values);
      })}
    >
      <Stack gap="md">
        <Text size="sm">
          What is open there goes on. Everybody types the new name from now on, scripts too; the former one is
          free for another Teamspace.
        </Text>
        <TextInput
          label="Name"
          description="Lower-case letters, digits and hyphens."
          autoComplete="off"
          spellCheck={false}
          data-autofocus
          {...form.getInputProps("name")}
        />
      </Stack>
    </DialogForm>
  );
}

/** A refusal for a version that is not the present one says what to do; the present one is read by `again`. */
export function meanwhile(error: unknown, again: () => void): Problem {
  const problem = asProblem(error);
  if (problem.status !== 412) return problem;
  again();
  return new Problem({
    status: 412,
    code: problem.code,
    title: "Changed meanwhile",
    detail: "Somebody has changed this Teamspace meanwhile. It has been read anew.",
    fix: "Look at what it is like now, and try again.",
  });
}
