import { Button, Group, Modal, Stack } from "@mantine/core";
import { createContext, useContext, useEffect, useState, type ReactNode, type SyntheticEvent } from "react";

import { ProblemAlert } from "./index";

// By which the form in a dialog says that its answer is on its way.
const Busy = createContext<(isBusy: boolean) => void>(() => undefined);

/**
 * A dialog. What is in it begins anew each time it is opened. While its form waits for an answer, which may be told once and never again, no stray key or
 * click closes it.
 */
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
  const [isBusy, setBusy] = useState(false);
  const isLoose = !careful && !isBusy;
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={title}
      size={size}
      centered
      closeOnClickOutside={isLoose}
      closeOnEscape={isLoose}
      withCloseButton={!careful}
    >
      <Busy value={setBusy}>{children}</Busy>
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
  const tellBusy = useContext(Busy);
  const { isPending } = change;
  useEffect(() => {
    tellBusy(isPending);
    return () => {
      tellBusy(false);
    };
  }, [isPending, tellBusy]);
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
          <Button type="submit" loading={isPending} disabled={disabled}>
            {submit}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
