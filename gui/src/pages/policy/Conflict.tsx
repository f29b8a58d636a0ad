import { Button, Group, Paper, SegmentedControl, Stack, Text, Title } from "@mantine/core";
import { IconGitMerge } from "@tabler/icons-react";
import { useEffect, useMemo, useRef, useState } from "react";

import type { Policy } from "../../api/hub.generated";
import { AskFirst, CopyButton, When } from "../../parts";
import classes from "./Conflict.module.css";
import { DiffView, sizeInWords } from "./DiffView";
import type { Editing } from "./draft";
import { lineDiff, withContext } from "./lineDiff";
import { merged } from "./merge";
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
  const together = useMemo(() => merged(began, theirs, editing.text), [began, theirs, editing.text]);
  const compared = useMemo(() => {
    const found =
      side === "theirs" ? lineDiff(began, theirs) : lineDiff(side === "yours" ? began : theirs, editing.text);
    return { ...found, rows: withContext(found.rows) };
  }, [side, began, theirs, editing.text]);
  return (
    <Paper
      ref={element}
      component="section"
      withBorder
      p="lg"
      aria-label="Saved meanwhile"
      className={classes.frame}
    >
      <Stack gap="md">
        <Group gap="xs" wrap="nowrap" role="alert">
          <IconGitMerge size={20} aria-hidden />
          <Title order={2}>Version {inForce.number} was saved meanwhile</Title>
        </Group>
        <Text size="sm" component="div">
          <bdi>{author}</bdi> saved it <When at={inForce.created_at} />
          {inForce.comment !== "" && (
            <>
              : <bdi>{inForce.comment}</bdi>
            </>
          )}
          . Your text began with version {editing.began.number} and is all there.{" "}
          {together === null
            ? "Both of you changed the same lines: put theirs into your text, then go on from it; saving replaces what is in force."
            : "Your changes and theirs are in different places, so that they can be put together. Look at the result before you save it."}
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
          {together !== null && (
            <Button
              size="xs"
              onClick={() => {
                editing.goOn(inForce, together);
              }}
            >
              Put both together
            </Button>
          )}
          <Button
            size="xs"
            variant={together === null ? "filled" : "default"}
            onClick={() => {
              editing.goOn(inForce, editing.text);
            }}
          >
            Go on with yours alone
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
    </Paper>
  );
}
