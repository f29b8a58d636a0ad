import { Button, Drawer, Group, Loader, Stack, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";

import type { AuditEntry } from "../../api/hub.generated";
import { CopyButton, When } from "../../parts";
import type { Filter } from "./filter";
import { Outcome } from "./Outcome";
import { Tree } from "./Tree";
import { idOf, kindOf, nameOf, wordsOf } from "./words";

const exact = new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "long" });

/** One entry, with all that it says. `isSearched`: it is not among those that were read so far, and more are being read. */
export function EntryDrawer({
  number,
  entry,
  isSearched,
  onClose,
  onFilter,
}: {
  number: string | undefined;
  entry: AuditEntry | undefined;
  isSearched: boolean;
  onClose: () => void;
  onFilter: (change: Partial<Filter>) => void;
}) {
  return (
    <Drawer
      opened={number !== undefined}
      onClose={onClose}
      position="right"
      size="md"
      title={entry === undefined ? `Entry ${number ?? ""}` : wordsOf(entry.action)}
    >
      {entry !== undefined ? (
        <Content entry={entry} onFilter={onFilter} />
      ) : isSearched ? (
        <Group gap="sm" role="status">
          <Loader size="sm" />
          <Text size="sm">Looking for it</Text>
        </Group>
      ) : (
        <Text size="sm">
          It is not among the entries that are shown. Show everything, or a time closer to it; entries that
          are older than the organization keeps them are gone.
        </Text>
      )}
    </Drawer>
  );
}

function Content({ entry, onFilter }: { entry: AuditEntry; onFilter: (change: Partial<Filter>) => void }) {
  const actor = idOf(entry.actor);
  const target = idOf(entry.target);
  return (
    <Stack gap="lg">
      <Group gap="sm">
        <Outcome outcome={entry.outcome} />
        <Text size="sm" component="span">
          <When at={entry.at} />
        </Text>
        <Text size="sm" c="dimmed">
          {exact.format(Date.parse(entry.at))}
        </Text>
      </Group>
      <Part
        title="Who"
        action={actor !== undefined && "All that they did"}
        onAction={() => {
          onFilter({ actor: actor ?? "" });
        }}
      >
        <Thing thing={entry.actor} />
      </Part>
      <Part
        title="On what"
        action={target !== undefined && "All that was done to it"}
        onAction={() => {
          onFilter({ target: target ?? "" });
        }}
      >
        <Thing thing={entry.target} />
      </Part>
      <Part title="Details">
        <Tree value={entry.details} />
      </Part>
      <Part
        title="Entry"
        action="All of this kind"
        onAction={() => {
          onFilter({ action: entry.action });
        }}
      >
        <Tree
          value={{
            number: entry.number,
            action: entry.action,
            "came from": entry.address,
            "request id": entry.request,
            id: entry.id,
          }}
        />
      </Part>
    </Stack>
  );
}

function Part({
  title,
  action = false,
  onAction,
  children,
}: {
  title: string;
  action?: string | false;
  onAction?: () => void;
  children: ReactNode;
}) {
  return (
    <section aria-label={title}>
      <Group justify="space-between" mb={6} mih={30}>
        <Title order={3}>{title}</Title>
        {action !== false && (
          <Button size="compact-xs" variant="subtle" onClick={onAction}>
            {action}
          </Button>
        )}
      </Group>
      {children}
    </section>
  );
}

/** Somebody or something: its name and kind, its id, and whatever else is said of it. */
function Thing({ thing }: { thing: Readonly<Record<string, unknown>> }) {
  const id = idOf(thing);
  const rest = Object.fromEntries(
    Object.entries(thing).filter(([name]) => !["kind", "id", "name"].includes(name)),
  );
  return (
    <Stack gap={4}>
      <Text size="sm" fw={500} style={{ overflowWrap: "anywhere" }}>
        <bdi>{nameOf(thing)}</bdi>{" "}
        <Text span size="sm" c="dimmed" fw={400}>
          {kindOf(thing)}
        </Text>
      </Text>
      {id !== undefined && (
        <Group gap={4} wrap="nowrap">
          <Text size="xs" ff="monospace" style={{ overflowWrap: "anywhere" }}>
            <bdi>{id}</bdi>
          </Text>
          <CopyButton text={id} label="Copy the id" />
        </Group>
      )}
      {Object.keys(rest).length > 0 && <Tree value={rest} />}
    </Stack>
  );
}
