import { Box, CloseButton, Group, Kbd, SegmentedControl, Select, Text, TextInput } from "@mantine/core";
import { useDebouncedCallback, useHotkeys } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { useMemo, useRef, useState } from "react";

import type { Service } from "../../api/agent.generated";
import { useAddress } from "../../parts/address";
import { namespacesOf, showOf, SHOWS } from "./filtering";

/** What of the catalog is shown: told by the address, and changed in it. `toFirst` leads to the first row. */
export function Filters({
  services,
  shown,
  toFirst,
}: {
  services: Service[];
  shown: number;
  toFirst: () => void;
}) {
  const [address, setAddress] = useAddress();
  const namespaces = useMemo(() => namespacesOf(services), [services]);
  const total = services.length.toLocaleString("en");
  return (
    <Group gap="sm" justify="space-between">
      <Group gap="sm">
        <Quick
          value={address.q ?? ""}
          toFirst={toFirst}
          onChange={(q) => {
            setAddress({ q });
          }}
        />
        <Select
          aria-label="Namespace"
          placeholder="All namespaces"
          w={200}
          data={namespaces}
          value={address.namespace ?? null}
          clearable
          searchable={namespaces.length > 8}
          limit={200}
          nothingFoundMessage="There is no such namespace"
          onChange={(namespace) => {
            setAddress({ namespace: namespace ?? "" });
          }}
        />
        <SegmentedControl
          aria-label="Show"
          data={[...SHOWS]}
          value={showOf(address.show)}
          onChange={(show) => {
            setAddress({ show: show === "all" ? "" : show });
          }}
        />
      </Group>
      <Text size="sm" role="status" c="dimmed" style={{ whiteSpace: "nowrap" }}>
        {shown === services.length
          ? `${total} services`
          : `${shown.toLocaleString("en")} of ${total} services`}
      </Text>
    </Group>
  );
}

/** The field for words. `f` leads to it, the down arrow from it to the first row. */
function Quick({
  value,
  onChange,
  toFirst,
}: {
  value: string;
  onChange: (text: string) => void;
  toFirst: () => void;
}) {
  const field = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(value);
  const [seen, setSeen] = useState(value);
  const [told, setTold] = useState(value);
  if (value !== seen) {
    setSeen(value);
    // Changed by somebody else than this field: by the history, or by a button.
    if (value !== told) setTyped(value);
  }
  const tell = (text: string) => {
    setTold(text);
    onChange(text);
  };
  const tellSoon = useDebouncedCallback(tell, 150);
  useHotkeys([["f", () => field.current?.focus()]]);
  return (
    <Box w={250}>
      <TextInput
        ref={field}
        aria-label="Filter services by name, port or person"
        placeholder="Name, port or person"
        aria-keyshortcuts="f"
        leftSection={<IconSearch size={16} aria-hidden />}
        rightSection={
          typed === "" ? (
            <Kbd size="xs" aria-hidden>
              f
            </Kbd>
          ) : (
            <CloseButton
              size="sm"
              aria-label="Clear the filter"
              onClick={() => {
                setTyped("");
                tell("");
                field.current?.focus();
              }}
            />
          )
        }
        value={typed}
        maxLength={200}
        onChange={(event) => {
          setTyped(event.currentTarget.value);
          tellSoon(event.currentTarget.value);
        }}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown") return;
          event.preventDefault();
          toFirst();
        }}
      />
    </Box>
  );
}
