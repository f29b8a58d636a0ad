import { Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";
import type { Policy } from "../../api/hub.generated";
import { Problem } from "../../api/problem";
import { said } from "../../parts";
import { Dialog, DialogForm } from "../../parts/FormDialog";
import { keyOf, usePlace, type Place } from "./policies";

interface Saved {
  opened: boolean;
  text: string;
  /** The version that was read. */
  began: number;
  onClose: () => void;
  onSaved: () => void;
}

/** Asks why, and puts the text in force. */
export function SaveDialog({ opened, ...rest }: Saved) {
  return (
    <Dialog title="Save the policy" opened={opened} onClose={rest.onClose}>
      <SaveForm {...rest} />
    </Dialog>
  );
}

function SaveForm({ text, began, onClose, onSaved }: Omit<Saved, "opened">) {
  const place = usePlace();
  const client = useQueryClient();
  const form = useForm({ initialValues: { comment: "" } });
  const change = useMutation({
    mutationFn: (comment: string) => put(place, text, comment, began),
    onSuccess: (now) => {
      client.setQueryData(keyOf(place, "in force"), now);
      onSaved();
      onClose();
      said(`Version ${String(now.number)} is in force within seconds.`);
      void client.invalidateQueries({ queryKey: keyOf(place) });
    },
    onError: (error) => {
      if (!(error instanceof Problem) || error.status !== 412) return;
      // The page shows what was saved meanwhile, beside what was written here.
      onClose();
      void client.invalidateQueries({ queryKey: keyOf(place, "in force") });
    },
  });
  return (
    <DialogForm
      submit="Save"
      change={change}
      onCancel={onClose}
      onSubmit={form.onSubmit(({ comment }) => {
        change.mutate(comment.trim());
      })}
    >
      <Text size="sm">
        It is in force in the Teamspace within two seconds. What it does not allow any more ends.
      </Text>
      <TextInput
        label="Comment"
        description="Why; kept with the version."
        maxLength={500}
        data-autofocus
        {...form.getInputProps("comment")}
      />
    </DialogForm>
  );
}

function put(place: Place, text: string, comment: string, began: number): Promise<Policy> {
  return told(
    hub.PUT("/api/v1/organizations/{organization}/spaces/{space}/policy", {
      params: { path: { ...place }, header: { "if-match": `"${String(began)}"` } },
      body: { text, comment },
    }),
  );
}
