import { Drawer, Group, SegmentedControl, Select, Stack, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useMemo, useRef, useState } from "react";

import { hub, idempotencyKey, told } from "../../api/hub";
import type { Policy, PolicyVersion } from "../../api/hub.generated";
import { AskFirst, CopyButton, Shown, State, When, said } from "../../parts";
import { useMay } from "../../session/session";
import { DiffView, sizeInWords } from "./DiffView";
import { lineDiff, withContext } from "./lineDiff";
import { asEdited, keyOf, useAuthor, usePlace, useVersion } from "./policies";
import { TextView } from "./TextView";

/** One version: what it says, what it changed since any other, and the way back to it. */
export function VersionDrawer({
  number,
  from,
  all,
  inForce,
  onFrom,
  onClose,
}: {
  number: number | undefined;
  from: number | undefined;
  all: PolicyVersion[];
  inForce: Policy | undefined;
  onFrom: (number: number) => void;
  onClose: () => void;
}) {
  const version = useVersion(number);
  return (
    <Drawer
      opened={number !== undefined}
      onClose={onClose}
      title={number === undefined ? "" : `Version ${String(number)}`}
      position="right"
      size="xl"
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {number !== undefined && (
        <Shown query={version}>
          {(shown) => (
            <Version
              key={shown.number}
              shown={shown}
              from={from}
              all={all}
              inForce={inForce}
              onFrom={onFrom}
              onClose={onClose}
            />
          )}
        </Shown>
      )}
    </Drawer>
  );
}

function Version({
  shown,
  from: named,
  all,
  inForce,
  onFrom,
  onClose,
}: {
  shown: Policy;
  from: number | undefined;
  all: PolicyVersion[];
  inForce: Policy | undefined;
  onFrom: (number: number) => void;
  onClose: () => void;
}) {
  const nameOf = useAuthor();
  const [view, setView] = useState(shown.number === 1 && named === undefined ? "text" : "changes");
  const from = named ?? Math.max(1, shown.number - 1);
  const isInForce = shown.number === inForce?.number;
  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-start" wrap="nowrap">
        <Stack gap={2} miw={0}>
          <Group gap="xs">
            <Text size="sm" component="div">
              <bdi>{nameOf(shown.author)}</bdi>, <When at={shown.created_at} />
            </Text>
            {isInForce && <State tone="good">In force</State>}
          </Group>
          {shown.comment !== "" && (
            <Text size="sm" style={{ overflowWrap: "anywhere" }}>
              <bdi>{shown.comment}</bdi>
            </Text>
          )}
        </Stack>
        <RollBack shown={shown} inForce={inForce} onDone={onClose} />
      </Group>
      <Group gap="sm" justify="space-between">
        <SegmentedControl
          size="sm"
          aria-label="What to show"
          value={view}
          onChange={setView}
          data={[
            { value: "changes", label: "Changes" },
            { value: "text", label: "Text" },
          ]}
        />
        {view === "text" ? (
          <CopyButton text={shown.text} label="Copy the text" />
        ) : (
          <Select
            aria-label="Compare with"
            w={280}
            searchable
            allowDeselect={false}
            limit={100}
            value={String(from)}
            data={all
              .filter((one) => one.number !== shown.number)
              .map((one) => ({ value: String(one.number), label: nameOfVersion(one, inForce?.number) }))}
            onChange={(value) => {
              if (value !== null) onFrom(Number(value));
            }}
          />
        )}
      </Group>
      {view === "text" ? <TextView text={shown.text} /> : <Changes shown={shown} from={from} />}
    </Stack>
  );
}

function nameOfVersion(one: PolicyVersion, inForce: number | undefined): string {
  const name = `Compared with version ${String(one.number)}`;
  return one.number === inForce ? `${name} (in force)` : name;
}

function Changes({ shown, from }: { shown: Policy; from: number }) {
  const other = useVersion(from);
  return <Shown query={other}>{(before) => <Compared before={before} after={shown} />}</Shown>;
}

function Compared({ before, after }: { before: Policy; after: Policy }) {
  const compared = useMemo(() => lineDiff(asEdited(before.text), asEdited(after.text)), [before, after]);
  const rows = useMemo(() => withContext(compared.rows), [compared]);
  if (before.number === after.number)
    return (
      <Text size="sm" c="dimmed">
        This is the first version.
      </Text>
    );
  return (
    <Stack gap="xs">
      <Text size="sm" c="dimmed">
        From version {before.number} to version {after.number}: {sizeInWords(compared)}
        {!compared.shortest && "; they differ too much to be compared line by line"}
      </Text>
      <DiffView
        rows={compared.added + compared.removed === 0 ? [] : rows}
        label={`From version ${String(before.number)} to version ${String(after.number)}`}
        empty="Both say the same."
        height="calc(100dvh - 260px)"
      />
    </Stack>
  );
}

function RollBack({
  shown,
  inForce,
  onDone,
}: {
  shown: Policy;
  inForce: Policy | undefined;
  onDone: () => void;
}) {
  const mayChange = useMay()("policies.manage");
  const place = usePlace();
  const client = useQueryClient();
  // What was refused may be tried again with it; what was done is done once.
  const key = useRef(idempotencyKey());
  const size = useMemo(
    () => (inForce === undefined ? undefined : lineDiff(asEdited(inForce.text), asEdited(shown.text))),
    [inForce, shown.text],
  );
  if (!mayChange || inForce === undefined || shown.number === inForce.number) return null;
  const rollBack = async () => {
    try {
      const now = await told(
        hub.POST("/api/v1/organizations/{organization}/spaces/{space}/policy/rollback", {
          params: {
            path: { ...place },
            header: { "if-match": `"${String(inForce.number)}"`, "Idempotency-Key": key.current },
          },
          body: { version: shown.number },
        }),
      );
      client.setQueryData(keyOf(place, "in force"), now);
      said(
        now.number === inForce.number
          ? `Version ${String(now.number)} says the same, and stays in force.`
          : `Version ${String(now.number)}, the text of version ${String(shown.number)}, is in force within seconds.`,
      );
    } finally {
      void client.invalidateQueries({ queryKey: keyOf(place) });
    }
  };
  return (
    <AskFirst
      label="Roll back"
      title={`Roll back to version ${String(shown.number)}?`}
      action={rollBack}
      onDone={() => {
        key.current = idempotencyKey();
        onDone();
      }}
    >
      The text of version {shown.number} is put in force again, as a new version
      {size !== undefined &&
        `: ${sizeInWords(size)} against version ${String(inForce.number)}, which is in force`}
      . It reaches the Teamspace within two seconds; what it does not allow any more ends.
    </AskFirst>
  );
}
