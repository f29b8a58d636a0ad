import { Button, Group, Select, Switch, TextInput } from "@mantine/core";
import { useMemo } from "react";

import { useMembers } from "../../parts/members";
import { SearchField } from "../../parts/SearchField";
import { localOf, momentOf, NOTHING, queryOf, type Filter } from "./filter";
import { ACTIONS } from "./words";

const OUTCOMES = [
  { value: "ok", label: "Done" },
  { value: "denied", label: "Denied" },
  { value: "failed", label: "Failed" },
];

/** What entries have to be to be shown. */
export function Filters({
  filter,
  live,
  onChange,
  onLive,
}: {
  filter: Filter;
  live: boolean;
  onChange: (change: Partial<Filter>) => void;
  onLive: (live: boolean) => void;
}) {
  const members = useMembers();
  const people = useMemo(
    () =>
      withChosen(
        (members.data ?? [])
          .map((one) => ({
            value: one.user,
            label: one.email === null ? one.name : `${one.name} (${one.email})`,
          }))
          .sort((one, other) => one.label.localeCompare(other.label)),
        filter.actor,
      ),
    [members.data, filter.actor],
  );
  return (
    <Group gap="sm" align="flex-end">
      <Select
        label="What"
        placeholder="Anything"
        clearable
        searchable
        w={230}
        limit={200}
        data={actionsFor(filter.action)}
        value={filter.action === "" ? null : filter.action}
        onChange={(action) => {
          onChange({ action: action ?? "" });
        }}
      />
      <Select
        label="Who"
        placeholder="Anybody"
        clearable
        searchable
        w={200}
        limit={100}
        nothingFoundMessage="No member is called that"
        data={people}
        value={filter.actor === "" ? null : filter.actor}
        onChange={(actor) => {
          onChange({ actor: actor ?? "" });
        }}
      />
      <Select
        label="Outcome"
        placeholder="Any"
        clearable
        w={120}
        data={withChosen(OUTCOMES, filter.outcome)}
        value={filter.outcome === "" ? null : filter.outcome}
        onChange={(outcome) => {
          onChange({ outcome: outcome ?? "" });
        }}
      />
      <TextInput
        label="From"
        type="datetime-local"
        w={200}
        value={localOf(filter.since)}
        onChange={(event) => {
          onChange({ since: momentOf(event.currentTarget.value) });
        }}
      />
      <TextInput
        label="Before"
        type="datetime-local"
        w={200}
        value={localOf(filter.until)}
        onChange={(event) => {
          onChange({ until: momentOf(event.currentTarget.value) });
        }}
      />
      <SearchField
        label="Id of what it was done to"
        width={240}
        value={filter.target}
        onChange={(target) => {
          onChange({ target: target.trim() });
        }}
      />
      <Switch
        label="Live"
        checked={live}
        pb={8}
        onChange={(event) => {
          onLive(event.currentTarget.checked);
        }}
      />
      {Object.keys(queryOf(filter)).length > 0 && (
        <Button
          variant="subtle"
          onClick={() => {
            onChange(NOTHING);
          }}
        >
          Show everything
        </Button>
      )}
    </Group>
  );
}

interface Option {
  value: string;
  label: string;
}

/** The options, and the one that the address says where it is none of them. */
function withChosen(options: readonly Option[], chosen: string): Option[] {
  const isKnown = chosen === "" || options.some((one) => one.value === chosen);
  return isKnown ? [...options] : [...options, { value: chosen, label: chosen }];
}

function actionsFor(chosen: string): { group: string; items: Option[] }[] {
  const known = ACTIONS.map(({ word, title, actions }) => ({
    group: title,
    items: [
      { value: word, label: `${title}: all` },
      ...Object.entries(actions).map(([value, label]) => ({ value, label })),
    ],
  }));
  const isKnown = chosen === "" || known.some(({ items }) => items.some((one) => one.value === chosen));
  return isKnown ? known : [...known, { group: "Other", items: [{ value: chosen, label: chosen }] }];
}
