import { Group, Text } from "@mantine/core";
import { useId, useImperativeHandle, useMemo, useRef, useState, type KeyboardEvent, type Ref } from "react";

import { indent, newLine, spanAt, type Edit } from "./editing";
import classes from "./Editor.module.css";

const LINE = 20;
const PADDING = 10;

/** What can be done with an editor from outside. */
export interface EditorHandle {
  /** Select what stands at that place (from 1, as the Hub counts), and go there. */
  goTo: (line: number, column: number) => void;
}

/** A text with line numbers. Tab indents, and Esc then Tab leaves, so that nobody is caught in it. */
export function Editor({
  value,
  onChange,
  onSave,
  readOnly = false,
  bad,
  label,
  handle,
}: {
  value: string;
  onChange?: (text: string) => void;
  onSave?: () => void;
  readOnly?: boolean;
  /** Lines with mistakes. */
  bad: readonly number[];
  label: string;
  handle?: Ref<EditorHandle>;
}) {
  const area = useRef<HTMLTextAreaElement>(null);
  const numbers = useRef<HTMLDivElement>(null);
  const [leaves, setLeaves] = useState(false);
  const help = useId();
  const lines = useMemo(() => value.split("\n").length, [value]);
  const digits = useMemo(
    () => Array.from({ length: lines }, (_, line) => String(line + 1)).join("\n"),
    [lines],
  );

  const follow = () => {
    if (area.current !== null && numbers.current !== null)
      numbers.current.style.transform = `translateY(${String(-area.current.scrollTop)}px)`;
  };
  useImperativeHandle(handle, () => ({
    goTo: (line, column) => {
      const shown = area.current;
      if (shown === null) return;
      const { start, end } = spanAt(shown.value, line, column);
      shown.focus();
      shown.setSelectionRange(start, end);
      shown.scrollTop = Math.max(0, (line - 1) * LINE - shown.clientHeight / 3);
      shown.scrollLeft = Math.max(0, (column - 60) * 8);
      follow();
    },
  }));

  const apply = (edit: Edit) => {
    const shown = area.current;
    if (shown === null) return;
    shown.setSelectionRange(edit.from, edit.to);
    // The one way to change a text that the browser's own Undo takes back.
    const isDone = document.execCommand(edit.text === "" ? "delete" : "insertText", false, edit.text);
    if (!isDone) {
      shown.setRangeText(edit.text, edit.from, edit.to);
      onChange?.(shown.value);
    }
    shown.setSelectionRange(edit.selected.start, edit.selected.end);
  };

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return;
    const { value: text, selectionStart: start, selectionEnd: end } = event.currentTarget;
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.key === "Escape") setLeaves(true);
    else if (event.key === "s" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      onSave?.();
    } else if (readOnly || !isPlain || event.key === "Shift") return;
    else if (event.key === "Tab") {
      if (leaves) return;
      event.preventDefault();
      const edit = indent(text, { start, end }, event.shiftKey);
      if (edit.text !== text.slice(edit.from, edit.to)) apply(edit);
    } else {
      setLeaves(false);
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        apply(newLine(text, { start, end }));
      }
    }
  };

  return (
    <div>
      <div className={classes.frame}>
        <div className={classes.gutter} aria-hidden>
          <div ref={numbers} className={classes.numbers}>
            {bad.map((line) => (
              <div key={line} className={classes.bad} style={{ top: PADDING + (line - 1) * LINE }}>
                !
              </div>
            ))}
            <div className={classes.digits}>{digits}</div>
          </div>
        </div>
        <textarea
          ref={area}
          className={classes.text}
          value={value}
          readOnly={readOnly}
          aria-label={label}
          aria-describedby={readOnly ? undefined : help}
          aria-invalid={bad.length > 0}
          spellCheck={false}
          autoCapitalize="off"
          autoCorrect="off"
          autoComplete="off"
          wrap="off"
          onScroll={follow}
          onKeyDown={onKeyDown}
          onFocus={() => {
            setLeaves(false);
          }}
          onChange={(event) => {
            onChange?.(event.currentTarget.value);
          }}
        />
      </div>
      <Group justify="space-between" mt={6} gap="sm">
        <Text size="xs" c="dimmed" id={help} role="status">
          {readOnly
            ? "You can read this policy. Owners and admins of the organization change it."
            : leaves
              ? "Tab leaves the editor now."
              : "Tab indents. Press Esc, then Tab, to leave the editor."}
        </Text>
        <Text size="xs" c="dimmed">
          {lines === 1 ? "1 line" : `${String(lines)} lines`}
        </Text>
      </Group>
    </div>
  );
}
