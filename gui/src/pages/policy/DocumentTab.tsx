import { Box, Button, Grid, Group, Stack, Text } from "@mantine/core";
import { useDebouncedValue, useDisclosure } from "@mantine/hooks";
import { useMemo, useRef } from "react";

import type { Policy } from "../../api/hub.generated";
import { AskFirst, Outside, ProblemAlert, When } from "../../parts";
import { Section } from "../../parts/Section";
import { useMay } from "../../session/session";
import { CheckResult, HiddenCharacters } from "./CheckResult";
import { Conflict } from "./Conflict";
import { DiffView } from "./DiffView";
import type { Editing } from "./draft";
import { Editor, type EditorHandle } from "./Editor";
import { asWritten, MOST_CHARACTERS, useAuthor, useCheck } from "./policies";
import { SaveDialog } from "./SaveDialog";
import { unifiedRows } from "./unifiedDiff";

const DOCUMENTATION = "https://docs.cedarpolicy.com/policies/syntax-policy.html";
const PAUSE_MS = 400;

/** The document in force, for whoever may change it with an editor: looked at by the Hub while it is written, saved when it can be used. */
export function DocumentTab({ inForce, editing }: { inForce: Policy; editing: Editing }) {
  const mayChange = useMay()("policies.manage");
  const nameOf = useAuthor();
  const editor = useRef<EditorHandle>(null);
  const [isSaving, saving] = useDisclosure(false);
  const text = useMemo(() => asWritten(editing.text, editing.began.text), [editing.text, editing.began.text]);
  const [settled] = useDebouncedValue(text, PAUSE_MS);
  const check = useCheck(settled);
  const isCurrent = check.data?.of === text && !check.isPlaceholderData;
  const isTooLong = text.length > MOST_CHARACTERS;
  // One's own version may be read before its saving is answered.
  const isOvertaken = editing.isChanged && !isSaving && editing.began.number !== inForce.number;
  const checked = isTooLong ? undefined : check.data?.checked;
  const bad = useMemo(() => [...new Set((checked?.errors ?? []).map((one) => one.line))], [checked]);
  const changes = useMemo(() => unifiedRows(checked?.diff ?? ""), [checked]);
  const canSave = editing.isChanged && !isOvertaken && isCurrent && check.data?.checked.valid === true;
  const save = () => {
    if (canSave) saving.open();
  };
  const goTo = (line: number, column: number) => {
    editor.current?.goTo(line, column);
  };
  return (
    <Stack gap="lg">
      {isOvertaken && <Conflict inForce={inForce} editing={editing} author={nameOf(inForce.author)} />}
      <Group justify="space-between" gap="sm">
        <Text size="sm" c="dimmed" component="div">
          Version {editing.began.number} by <bdi>{nameOf(editing.began.author)}</bdi>,{" "}
          <When at={editing.began.created_at} />
          {editing.began.comment !== "" && (
            <>
              {": "}
              <bdi>{editing.began.comment}</bdi>
            </>
          )}
        </Text>
        {mayChange && (
          <Group gap="sm">
            {editing.isChanged && (
              <AskFirst
                label="Drop changes"
                title="Drop your changes?"
                action={() => {
                  editing.drop();
                  return Promise.resolve();
                }}
              >
                The text is again what is in force, version {inForce.number}. What you wrote is kept nowhere.
              </AskFirst>
            )}
            <Button onClick={save} disabled={!canSave} aria-describedby="why-not-saved">
              Save
            </Button>
          </Group>
        )}
      </Group>
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, lg: 8 }}>
          <Editor
            label="Policy document"
            value={editing.text}
            readOnly={!mayChange}
            bad={isCurrent ? bad : []}
            handle={editor}
            onChange={editing.edit}
            onSave={save}
          />
        </Grid.Col>
        <Grid.Col span={{ base: 12, lg: 4 }}>
          <Stack gap="md">
            <CheckResult
              checked={checked}
              error={check.data === undefined || check.isError ? check.error : null}
              again={() => void check.refetch()}
              isCurrent={isCurrent}
              isTooLong={isTooLong}
              goTo={goTo}
            />
            <HiddenCharacters text={editing.text} goTo={goTo} />
            {mayChange && (
              <Text size="xs" c="dimmed" id="why-not-saved">
                {whyNot({ ...editing, isOvertaken, isCurrent, isValid: checked?.valid === true })}
              </Text>
            )}
            <Text size="xs" c="dimmed">
              Policies are written in <Outside href={DOCUMENTATION}>Cedar</Outside>. Comments that begin with
              @test are tried whenever the document is saved:{" "}
              <Box component="code" ff="monospace">
                {"// @test deny viewer consume shop/orders"}
              </Box>
            </Text>
          </Stack>
        </Grid.Col>
      </Grid>
      {editing.isChanged && !isOvertaken && (
        <Section
          title="What it would change"
          about={`Against version ${String(inForce.number)}, which is in force.`}
        >
          {check.isError && checked === undefined ? (
            <ProblemAlert error={check.error} />
          ) : (
            <DiffView rows={changes} label="What the document would change" />
          )}
        </Section>
      )}
      <SaveDialog
        opened={isSaving}
        text={text}
        began={editing.began.number}
        onClose={saving.close}
        onSaved={editing.drop}
      />
    </Stack>
  );
}

function whyNot(now: {
  isChanged: boolean;
  isOvertaken: boolean;
  isCurrent: boolean;
  isValid: boolean;
}): string {
  if (!now.isChanged) return "There is nothing to save: the text is what is in force.";
  if (now.isOvertaken) return "It can be saved when you have looked at what was saved meanwhile.";
  if (!now.isCurrent) return "It can be saved when it has been checked.";
  return now.isValid
    ? "It can be saved, also with Ctrl+S in the editor."
    : "It can be saved when no mistake is left.";
}
