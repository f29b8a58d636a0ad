import { Alert, Button, Code, Drawer, Group, Loader, Stack, Text, Textarea } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useMutation, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { agent } from "../../api/agent";
import type { ConsumeView } from "../../api/agent.generated";
import { ProblemAlert, said } from "../../parts";
import { linesOf } from "../../space/rules";
import { refOf } from "../../space/services";
import { useConsumeChanged } from "./consuming";

const MOST_NAMED = 6;

/** The consume rules, as text, with what they would change before they do. */
export function RulesEditor({
  view,
  opened,
  onClose,
}: {
  view: ConsumeView;
  opened: boolean;
  onClose: () => void;
}) {
  return (
    <Drawer
      opened={opened}
      onClose={onClose}
      title="Consume rules"
      closeButtonProps={{ "aria-label": "Close" }}
      position="right"
      size="lg"
    >
      <Editor view={view} onClose={onClose} />
    </Drawer>
  );
}

/** What begins anew each time the editor is opened. */
function Editor({ view, onClose }: { view: ConsumeView; onClose: () => void }) {
  const changed = useConsumeChanged();
  const [text, setText] = useState(() => view.rules.join("\n"));
  // Whoever edits them elsewhere meanwhile is not overwritten without a word.
  const [begun, setBegun] = useState(view.rules);
  const isOther = begun.join("\n") !== view.rules.join("\n");
  const rules = useMemo(() => linesOf(text), [text]);
  const [settled] = useDebouncedValue(rules, 250);
  const preview = useQuery({
    queryKey: ["agent", "consume", "test", settled],
    queryFn: ({ signal }) => agent.testConsume({ rules: settled }, signal),
    placeholderData: keepPreviousData,
    retry: false,
    gcTime: 0,
  });
  const apply = useMutation({
    mutationFn: () => agent.changeConsume({ rules }),
    onSuccess: (now) => {
      changed(now);
      said(
        now.consumed.length === 0
          ? "Nothing is consumed"
          : `${counted(now.consumed.length)} consumed on this machine`,
      );
      onClose();
    },
  });
  const isSame = rules.join("\n") === view.rules.join("\n");
  const canApply = !isSame && !preview.isError && !apply.isPending;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (canApply) apply.mutate();
      }}
    >
      <Stack gap="md">
        <Text size="sm" c="dimmed" component="div">
          One rule a line; the last one that matches a service decides. <Code>*.shop</Code> is every service
          of namespace shop, <Code>!frontend.shop</Code> leaves one out, <Code>orders.shop:80</Code> means
          this port alone, <Code>*</Code> is everything but what belongs to the cluster itself, and{" "}
          <Code>#</Code> begins a comment. A name alone means the primary namespace.
        </Text>
        {isOther && (
          <Alert
            color="yellow"

            role="status"
            title="The rules were changed elsewhere meanwhile"
          >
            <Group justify="space-between">
              <Text size="sm">Applying yours replaces those.</Text>
              <Button
                size="xs"
                variant="default"
                onClick={() => {
                  setBegun(view.rules);
                  setText(view.rules.join("\n"));
                }}
              >
                Take the new ones
              </Button>
            </Group>
          </Alert>
        )}
        <Textarea
          label="Rules"
          data-autofocus
          autosize
          minRows={8}
          maxRows={18}
          spellCheck={false}
          autoCapitalize="off"
          placeholder="*.shop"
          styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)" } }}
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
              event.preventDefault();
              if (canApply) apply.mutate();
            }
          }}
        />
        <Group gap="xs">
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              setText("*");
            }}
          >
            Consume all
          </Button>
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              setText("");
            }}
          >
            Clear
          </Button>
        </Group>
        {preview.isError ? (
          <ProblemAlert error={preview.error} title="These rules cannot be used" />
        ) : preview.data === undefined ? (
          <Loader size="sm" aria-label="Looking what these rules let in" />
        ) : (
          <Preview before={view} after={preview.data} />
        )}
        {apply.error !== null && !preview.isError && <ProblemAlert error={apply.error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={apply.isPending} disabled={isSame || preview.isError}>
            Apply
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

/** What rules would let in, and what of that is new or gone. */
function Preview({ before, after }: { before: ConsumeView; after: ConsumeView }) {
  const [comes, goes] = useMemo(() => {
    const old = new Set(before.consumed.map((one) => refOf(one.service)));
    const next = new Set(after.consumed.map((one) => refOf(one.service)));
    return [[...next].filter((one) => !old.has(one)), [...old].filter((one) => !next.has(one))];
  }, [before, after]);
  return (
    <Stack gap="xs" role="status">
      <Text size="sm" fw={600}>
        {after.consumed.length === 0
          ? "These rules let no service in"
          : `These rules let ${counted(after.consumed.length)} in`}
      </Text>
      <Named words="Come" refs={comes} />
      <Named words="Go" refs={goes} />
      {comes.length === 0 && goes.length === 0 && (
        <Text size="sm" c="dimmed">
          Nothing comes and nothing goes.
        </Text>
      )}
      {after.warnings.map((warning) => (
        <Alert key={warning.code + warning.text} color="yellow" p="xs">
          <Text size="sm">{warning.text}</Text>
          {warning.fix !== null && <Text size="sm">{warning.fix}</Text>}
          <Text size="xs" ff="monospace">
            {warning.code}
          </Text>
        </Alert>
      ))}
    </Stack>
  );
}

function Named({ words, refs }: { words: string; refs: string[] }) {
  if (refs.length === 0) return null;
  const left = refs.length - MOST_NAMED;
  return (
    <Text size="sm" style={{ overflowWrap: "anywhere" }}>
      {words} ({refs.length.toLocaleString("en")}): <bdi>{refs.slice(0, MOST_NAMED).join(", ")}</bdi>
      {left > 0 && ` and ${left.toLocaleString("en")} more`}
    </Text>
  );
}

function counted(count: number): string {
  return `${count.toLocaleString("en")} ${count === 1 ? "service" : "services"}`;
}
