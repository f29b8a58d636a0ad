import { Button, Group, Modal, Stack } from "@mantine/core";
import type { ReactNode, SyntheticEvent } from "react";

import { ProblemAlert } from "./index";

/** A dialog. What is in it begins anew each time it is opened. */
export function Dialog({
  title,
  opened,
  onClose,
  children,
  size = "md",
  careful = false,
}: {
  title: string;
  opened: boolean;
  onClose: () => void;
  children: ReactNode;
  size?: string;
  /** Closed by its button alone: what it shows is not shown again. */
  careful?: boolean;
}) {
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={title}
      size={size}
      centered
      closeOnClickOutside={!careful}
      closeOnEscape={!careful}
      withCloseButton={!careful}
    >
      {children}
    </Modal>
  );
}

/** The form in a dialog: fields, why it was refused, and the buttons. Enter submits. */
export function DialogForm({
  children,
  submit,
  change,
  onSubmit,
  onCancel,
  disabled = false,
}: {
  children: ReactNode;
  submit: string;
  change: { isPending: boolean; error: unknown };
  onSubmit: (event: SyntheticEvent<HTMLFormElement>) => void;
  onCancel?: () => void;
  disabled?: boolean;
}) {
  return (
    <form onSubmit={onSubmit} noValidate>
      <Stack gap="md">
        {children}
        {change.error !== null && <ProblemAlert error={change.error} />}
        <Group justify="flex-end">
          {onCancel !== undefined && (
            <Button variant="default" onClick={onCancel}>
              Cancel
            </Button>
          )}
          <Button type="submit" loading={change.isPending} disabled={disabled}>
            {submit}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
