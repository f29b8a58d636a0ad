import { Alert, Button, Group, SegmentedControl, Stack, Text } from "@mantine/core";
import { IconGitMerge } from "@tabler/icons-react";
import { useEffect, useMemo, useRef, useState } from "react";

import type { Policy } from "../../api/hub.generated";
import { AskFirst, CopyButton, When } from "../../parts";
import { DiffView, sizeInWords } from "./DiffView";
import type { Editing } from "./draft";
import { lineDiff, withContext } from "./lineDiff";
import { asEdited } from "./policies";

const SIDES = [
  { value: "both", label: "Theirs and yours" },
  { value: "theirs", label: "What they changed" },
  { value: "yours", label: "What you changed" },
];

/** Somebody saved while somebody else was writing: shows both, and takes nothing away. */
export function Conflict({
  inForce,
  editing,
  author,
}: {
  inForce: Policy;
  editing: Editing;
  author: string;
}) {
  const [side, setSide] = useState("both");
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    element.current?.scrollIntoView({ block: "nearest" });
  }, [inForce.number]);
  const began = asEdited(editing.began.text);
  const theirs = asEdited(inForce.text);
  const compared = useMemo(() => {
    const found =
      side === "theirs" ? lineDiff(began, theirs) : lineDiff(side === "yours" ? began : theirs, editing.text);
    return { ...found, rows: withContext(found.rows) };
  }, [side, began, theirs, editing.text]);
  return (
    <Alert
      ref={element}
      color="yellow"
      role="alert"
      icon={<IconGitMerge aria-hidden />}
      title={`Version ${String(inForce.number)} was saved meanwhile`}
    >
      <Stack gap="md">
        <Text size="sm" component="div">
          <bdi>{author}</bdi> saved it <When at={inForce.created_at} />
          {inForce.comment !== "" && (
            <>
              : <bdi>{inForce.comment}</bdi>
            </>
          )}
          . Your text began with version {editing.began.number} and is all there. Put their change into it,
          then go on from version {inForce.number}; saving replaces it.
        </Text>
        <Group justify="space-between">
          <SegmentedControl
            size="xs"
            aria-label="What to compare"
            data={SIDES}
            value={side}
            onChange={setSide}
          />
          <Text size="xs">{sizeInWords(compared)}</Text>
        </Group>
        <DiffView
          rows={compared.added + compared.removed === 0 ? [] : compared.rows}
          label={SIDES.find((one) => one.value === side)?.label ?? ""}
          height={320}
        />
        <Group gap="sm">
          <Button
            size="xs"
            onClick={() => {
              editing.goOn(inForce);
            }}
          >
            Go on from version {inForce.number}
          </Button>
          <AskFirst
            size="xs"
            label="Take theirs"
            title="Take theirs?"
            action={() => {
              editing.drop();
              return Promise.resolve();
            }}
          >
            The text becomes version {inForce.number}. What you wrote is kept nowhere.
          </AskFirst>
          <CopyButton text={editing.text} label="Copy your text" />
        </Group>
      </Stack>
    </Alert>
  );
}
