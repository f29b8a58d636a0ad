import { CloseButton, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { useState } from "react";

/** A field to filter what is shown. `value` is what is in force; `onChange` is called when typing pauses. */
export function SearchField({
  label,
  value,
  onChange,
  width = 280,
}: {
  label: string;
  value: string;
  onChange: (text: string) => void;
  width?: number;
}) {
  const [typed, setTyped] = useState(value);
  const [before, setBefore] = useState(value);
  const [asked, setAsked] = useState(value);
  const tell = useDebouncedCallback((text: string) => {
    setAsked(text);
    onChange(text);
  }, 200);
  // What was changed elsewhere (a link, a step back) is shown; what comes back from here is older than what was typed since.
  if (value !== before) {
    setBefore(value);
    if (value !== asked) setTyped(value);
  }
  return (
    <TextInput
      aria-label={label}
      placeholder={label}
      leftSection={<IconSearch size={16} aria-hidden />}
      rightSection={
        typed === "" ? null : (
          <CloseButton
            size="sm"
            aria-label="Clear"
            onClick={() => {
              tell.cancel();
              setTyped("");
              setAsked("");
              onChange("");
            }}
          />
        )
      }
      w={width}
      maxLength={200}
      value={typed}
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        tell(event.currentTarget.value);
      }}
    />
  );
}
