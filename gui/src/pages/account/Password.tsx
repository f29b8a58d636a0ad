import { Button, PasswordInput, Text } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { hub } from "../../api/hub";
import { said } from "../../parts";
import { Dialog, DialogForm } from "../../parts/FormDialog";
import { Section } from "../../parts/Section";
import { useSession } from "../../session/session";

const LEAST = 12;
const MOST = 1024;

/** Change one's password, or set the first one. */
export function Password() {
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <Section
      title="Password"
      about="With a new one you stay signed in here, and are signed out everywhere else."
      action={
        <Button variant="default" size="xs" onClick={open}>
          Change or set it
        </Button>
      }
    >
      <Dialog title="Change or set your password" opened={opened} onClose={close}>
        <Change onDone={close} />
      </Dialog>
    </Section>
  );
}

function Change({ onDone }: { onDone: () => void }) {
  const client = useQueryClient();
  const { me } = useSession();
  const form = useForm({
    initialValues: { present: "", fresh: "", again: "" },
    validate: {
      fresh: (text) =>
        text.length < LEAST || text.length > MOST
          ? `${String(LEAST)} characters at least; a few words are good`
          : null,
      again: (text, values) => (text === values.fresh ? null : "Not the same as the new one"),
    },
  });
  const change = useMutation({
    mutationFn: ({ present, fresh }: { present: string; fresh: string }) =>
      hub.POST("/api/v1/auth/password", {
        body: { new: fresh, ...(present === "" ? {} : { present }) },
      }),
    onSuccess: async () => {
      said("Your password is changed; everywhere else you are signed out");
      onDone();
      await client.invalidateQueries({ queryKey: ["hub", "self"] });
    },
  });
  return (
    <DialogForm
      submit="Use the new password"
      change={change}
      onCancel={onDone}
      onSubmit={form.onSubmit((values) => {
        change.mutate(values);
      })}
    >
      {/* For password managers: whose password it is. */}
      <input type="text" autoComplete="username" value={me?.user.email ?? ""} readOnly hidden />
      <PasswordInput
        label="Present password"
        description="Leave it empty if you have none yet: you came by a sign-in provider."
        autoComplete="current-password"
        data-autofocus
        {...form.getInputProps("present")}
      />
      <PasswordInput
        label="New password"
        description={`${String(LEAST)} characters at least. Take a few words; anything else is up to you.`}
        autoComplete="new-password"
        required
        {...form.getInputProps("fresh")}
      />
      <PasswordInput
        label="New password again"
        autoComplete="new-password"
        required
        {...form.getInputProps("again")}
      />

      <Text size="sm">
        Machines where you are signed in by czctl are signed out, too, and what they consume and serve ends.
        Sign in there again: <code>czctl auth login</code>.
      </Text>
    </DialogForm>
  );
}
