import { Alert, Button, Checkbox, Group, NumberInput, Progress, Stack, Text } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";

import { hub, told } from "../../api/hub";
import { asProblem } from "../../api/problem";
import { Command, ProblemAlert } from "../../parts";
import { Dialog, DialogForm } from "../../parts/FormDialog";
import { useOrganization } from "../../session/session";
import { exported, save, sizeOf, type Exported } from "./exporting";

// A browser holds it in memory until it is kept as a file.
const MOST_BYTES = 256_000_000;

interface Wanted {
  after: number;
  pseudonymous: boolean;
}

/** A dialog that gets the audit as a file. */
export function ExportDialog({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Dialog title="Export the audit" opened={opened} onClose={onClose} size="lg">
      <Export onDone={onClose} />
    </Dialog>
  );
}

function Export({ onDone }: { onDone: () => void }) {
  const organization = useOrganization();
  const [progress, setProgress] = useState({ entries: 0, bytes: 0 });
  const stopping = useRef<AbortController | null>(null);
  useEffect(() => () => stopping.current?.abort(), []);
  const form = useForm<{ after: number | string; pseudonymous: boolean }>({
    initialValues: { after: 0, pseudonymous: false },
    validate: {
      after: (after) =>
        typeof after === "number" && Number.isInteger(after) && after >= 0 && after < 2 ** 31
          ? null
          : "The number of an entry, or 0 for all",
    },
  });
  const run = useMutation({
    mutationFn: async ({ after, pseudonymous }: Wanted) => {
      const stop = new AbortController();
      stopping.current = stop;
      setProgress({ entries: 0, bytes: 0 });
      const stream = await told(
        hub.GET("/api/v1/organizations/{organization}/audit/export", {
          params: { path: { organization: organization.id }, query: { after, pseudonymous } },
          parseAs: "stream",
          signal: stop.signal,
        }),
      );
      return await exported(stream, MOST_BYTES, (entries, bytes) => {
        setProgress({ entries, bytes });
      });
    },
    onSuccess: (found, { pseudonymous }) => {
      if (stopping.current?.signal.aborted === false && found.entries > 0)
        save(
          found.parts,
          `audit-${organization.id}${pseudonymous ? "-pseudonymous" : ""}-to-${String(found.last)}.jsonl`,
        );
    },
  });
  if (run.isPending)
    return (
      <Stack gap="md">
        <Text size="sm" role="status">
          {progress.entries.toLocaleString("en")} entries so far, {sizeOf(progress.bytes)}
        </Text>
        <Progress value={100} animated aria-label="Reading the audit" />
        <Group justify="flex-end">
          <Button variant="default" onClick={onDone}>
            Stop
          </Button>
        </Group>
      </Stack>
    );
  if (run.data !== undefined)
    return (
      <Result
        found={run.data}
        pseudonymous={run.variables.pseudonymous}
        onDone={onDone}
        onMore={() => {
          run.mutate({ ...run.variables, after: run.data.last });
        }}
      />
    );
  return (
    <DialogForm
      submit="Export"
      change={run}
      onCancel={onDone}
      onSubmit={form.onSubmit(({ after, pseudonymous }) => {
        run.mutate({ after: Number(after), pseudonymous });
      })}
    >
      <Text size="sm">
        All entries as JSON, one a line, oldest first, whatever is filtered on the page. At the end is a
        checkpoint signed by the Hub: whoever keeps the file can show later what was written. That you export
        is an entry, too.
      </Text>
      <NumberInput
        label="Only entries behind number"
        description="0 for all; or the number of the last entry of your export before."
        min={0}
        allowDecimal={false}
        allowNegative={false}
        styles={{ wrapper: { maxWidth: 240 } }}
        {...form.getInputProps("after")}
      />
      <Checkbox
        label="Pseudonymous"
        description="Without names, addresses and whatever else says who people are. Such a file cannot be verified."
        {...form.getInputProps("pseudonymous", { type: "checkbox" })}
      />
    </DialogForm>
  );
}

function Result({
  found,
  pseudonymous,
  onDone,
  onMore,
}: {
  found: Exported;
  pseudonymous: boolean;
  onDone: () => void;
  onMore: () => void;
}) {
  const command = `czctl audit export${pseudonymous ? " --pseudonymous" : ""}${found.last > 0 ? ` --after ${String(found.last)}` : ""} --file audit.jsonl`;
  const isWhole = !found.isFull && found.broken === null;
  return (
    <Stack gap="md">
      {found.entries > 0 ? (
        <Text size="sm" role="status">
          {found.entries.toLocaleString("en")} entries up to number {found.last}, {sizeOf(found.bytes)}: your
          browser keeps them as a file.
        </Text>
      ) : (
        <Text size="sm" role="status">
          {isWhole ? "There are no entries behind that number." : "No entry has come."}
        </Text>
      )}
      {found.isFull && (
        <Alert color="yellow" p="sm">
          <Stack gap="xs">
            <Text size="sm">
              There are more than this page holds at once. Go on behind the last one, or get them by czctl,
              which writes a file of any size:
            </Text>
            <Command>{command}</Command>
          </Stack>
        </Alert>
      )}
      {found.broken !== null && (
        <ProblemAlert
          error={asProblem(found.broken)}
          title={
            found.last > 0 ? `All up to entry ${String(found.last)} came, then no more` : "It ended early"
          }
        />
      )}
      <Group justify="flex-end">
        {!isWhole && (
          <Button variant="default" onClick={onMore}>
            Go on behind {found.last}
          </Button>
        )}
        <Button onClick={onDone}>Close</Button>
      </Group>
    </Stack>
  );
}
