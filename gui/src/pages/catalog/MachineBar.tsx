import { Button, Select, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { agent } from "../../api/agent";
import { AskFirst, refused, said } from "../../parts";
import { useConsume, useConsumeChanged } from "./consuming";
import { RulesEditor } from "./RulesEditor";

/** What this machine consumes as a whole: the primary namespace, the rules, and the end of everything. */
export function MachineBar({ namespaces }: { namespaces: string[] }) {
  const consume = useConsume(true);
  const client = useQueryClient();
  const changed = useConsumeChanged();
  const [isOpened, { open, close }] = useDisclosure(false);
  const select = useMutation({
    mutationFn: agent.selectPrimaryNamespace,
    onSuccess: (view) => {
      changed(view);
      said(
        view.primary_namespace === null
          ? "No service answers to its bare name"
          : `Consumed services of ${view.primary_namespace} answer to their bare names`,
      );
    },
    onError: refused,
  });
  const primary = consume.data?.primary_namespace ?? null;
  const choices = primary === null || namespaces.includes(primary) ? namespaces : [primary, ...namespaces];
  return (
    <>
      <Select
        aria-label="Primary namespace"
        leftSection={
          <Text size="xs" c="dimmed" aria-hidden>
            Primary namespace
          </Text>
        }
        leftSectionWidth={132}
        placeholder="none"
        title="The namespace whose services answer to their bare names"
        w={290}
        data={choices}
        value={primary}
        clearable
        searchable
        limit={200}
        nothingFoundMessage="There is no such namespace"
        disabled={consume.data === undefined || select.isPending}
        onChange={(namespace) => {
          select.mutate(namespace);
        }}
      />
      <Button variant="default" onClick={open} disabled={consume.data === undefined}>
        Consume rules
      </Button>
      <AskFirst
        label="Reset"
        title="End everything you consume and serve here?"
        action={agent.reset}
        onDone={() => {
          said("Nothing is consumed or served any more");
          void client.invalidateQueries({ queryKey: ["agent"] });
        }}
      >
        All consume rules go, and every variant of this machine ends: its requests go to the services&apos;
        own pods again. The agent keeps running and the primary namespace stays; so does what your other
        laptops serve.
      </AskFirst>
      {consume.data !== undefined && <RulesEditor view={consume.data} opened={isOpened} onClose={close} />}
    </>
  );
}
