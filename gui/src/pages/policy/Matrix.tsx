import {
  Alert,
  Button,
  Group,
  Input,
  Paper,
  Progress,
  Stack,
  Text,
  TextInput,
  Tooltip,
  UnstyledButton,
} from "@mantine/core";
import { useMemo, useState, type KeyboardEvent } from "react";

import type { Service } from "../../api/agent.generated";
import type { May, MayAsked } from "../../api/hub.generated";
import { Nothing, ProblemAlert, Shown, Stale } from "../../parts";
import { useAddress } from "../../parts/address";
import { SearchField } from "../../parts/SearchField";
import { useCatalog, type Told } from "../../space/source";
import classes from "./Matrix.module.css";
import { nameOf, whyNoCondition } from "./questions";
import { cellOf, COLUMNS, questionOf, useMatrix, type Asked, type Column } from "./useMatrix";
import type { Who } from "./who";

// Each is asked about up to four times.
const MOST = 50;

/** What a person may do with each service of the catalog. */
export function Matrix(props: {
  who: Who;
  version: number | undefined;
  onOpen: (question: MayAsked) => void;
}) {
  const catalog = useCatalog();
  return <Shown query={catalog}>{(told) => <OfCatalog told={told} {...props} />}</Shown>;
}

function OfCatalog({
  told,
  who,
  version,
  onOpen,
}: {
  told: Told<Service>;
  who: Who;
  version: number | undefined;
  onOpen: (question: MayAsked) => void;
}) {
  const [address, change] = useAddress();
  const [header, setHeader] = useState("x-team:blue");
  const { asked, ask, stop } = useMatrix(who);
  const filter = (address.q ?? "").trim().toLowerCase();
  const found = useMemo(
    () => told.items.filter((service) => nameOf(service).includes(filter)),
    [told.items, filter],
  );
  const shown = found.slice(0, MOST);
  if (told.items.length === 0)
    return (
      <Nothing title="No service is known yet">
        The Teamspace tells its services when it is connected. Until then ask about one by its name.
      </Nothing>
    );
  const whyNoHeader = whyNoCondition("header", header);
  const isOutdated = asked.of > 0 && asked.version !== version;
  return (
    <Stack gap="md">
      <Stale since={told.staleSince} />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (asked.isAsking) stop();
          else if (whyNoHeader === null) void ask(shown, header, version);
        }}
      >
        <Group align="flex-start" gap="md">
          <Stack gap={1} pt={2}>
            <Input.Label labelElement="div" aria-hidden>
              Services
            </Input.Label>
            <SearchField
              label="Filter services"
              value={address.q ?? ""}
              onChange={(q) => {
                change({ q });
              }}
            />
          </Stack>
          <TextInput
            label="Header, for serve header"
            value={header}
            maxLength={1200}
            error={whyNoHeader}
            onChange={(event) => {
              setHeader(event.currentTarget.value);
            }}
          />
          <Group mt={25} gap="sm">
            {/* One button, which keeps the focus when it becomes the other. */}
            <Button
              type="submit"
              variant={asked.isAsking ? "default" : "filled"}
              disabled={!asked.isAsking && shown.length === 0}
            >
              {asked.isAsking
                ? "Stop"
                : shown.length === 1
                  ? "Ask about 1 service"
                  : `Ask about ${String(shown.length)} services`}
            </Button>
          </Group>
        </Group>
      </form>
      {found.length > MOST && (
        <Text size="sm" c="dimmed">
          The first {MOST} of {found.length} services are shown and asked about; filter to see others.
        </Text>
      )}
      <Running asked={asked} />
      {asked.error !== null && (
        <ProblemAlert
          error={asked.error}
          title="Not all was asked"
          again={() => void ask(shown, header, version)}
        />
      )}
      {isOutdated && !asked.isAsking && (
        <Alert color="yellow" p="xs" role="status">
          <Text size="sm">The policy was changed since these answers were given. Ask again.</Text>
        </Alert>
      )}
      {shown.length === 0 ? (
        <Nothing title="No service is called so">Change the filter.</Nothing>
      ) : (
        <Cells
          services={shown}
          who={who}
          asked={asked}
          onOpen={(service, column) => {
            onOpen(questionOf(service, column, who, asked.header));
          }}
        />
      )}
    </Stack>
  );
}

function Running({ asked }: { asked: Asked }) {
  if (asked.of === 0) return null;
  const all = [...asked.answers.values()];
  const allowed = all.filter((one) => one.allowed).length;
  return (
    <Stack gap={4}>
      {asked.isAsking && (
        <Progress value={(100 * asked.done) / asked.of} aria-label="Questions that are answered" />
      )}
      <Text size="sm" role="status">
        {asked.isAsking
          ? `${String(asked.done)} of ${String(asked.of)} answered`
          : `${asked.done < asked.of ? `Stopped at ${String(asked.done)} of ${String(asked.of)}: ` : ""}${String(allowed)} times yes, ${String(all.length - allowed)} times no`}
      </Text>
    </Stack>
  );
}

function Cells({
  services,
  who,
  asked,
  onOpen,
}: {
  services: readonly Service[];
  who: Who;
  asked: Asked;
  onOpen: (service: Service, column: Column) => void;
}) {
  // One cell is reached by Tab, the others from there by the arrow keys.
  const [at, setAt] = useState({ row: 0, column: 0 });
  const row = Math.min(at.row, services.length - 1);
  const move = (event: KeyboardEvent<HTMLTableElement>) => {
    const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = {
      row: Math.max(0, Math.min(services.length - 1, row + (step[0] ?? 0))),
      column: Math.max(0, Math.min(COLUMNS.length - 1, at.column + (step[1] ?? 0))),
    };
    setAt(next);
    event.currentTarget
      .querySelector<HTMLElement>(`[data-cell="${String(next.row)}-${String(next.column)}"]`)
      ?.focus();
  };
  return (
    <Paper withBorder className={classes.frame}>
      <table
        role="grid"
        className={classes.table}
        aria-label={`What ${who.name} may do. Arrow keys move, Enter shows the reason in full.`}
        onKeyDown={move}
      >
        <thead>
          <tr>
            <th scope="col">Service</th>
            {COLUMNS.map((column) => (
              <th key={column.id} scope="col">
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {services.map((service, index) => (
            <tr key={nameOf(service)}>
              <th scope="row" title={nameOf(service)}>
                <bdi>{nameOf(service)}</bdi>
              </th>
              {COLUMNS.map((column, number) => (
                <td key={column.id}>
                  <Cell
                    id={`${String(index)}-${String(number)}`}
                    may={asked.answers.get(cellOf(service, column.id))}
                    isReached={index === row && number === at.column}
                    onFocus={() => {
                      setAt({ row: index, column: number });
                    }}
                    onOpen={() => {
                      onOpen(service, column.id);
                    }}
                  />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Paper>
  );
}

function Cell({
  id,
  may,
  isReached,
  onFocus,
  onOpen,
}: {
  id: string;
  may: May | undefined;
  isReached: boolean;
  onFocus: () => void;
  onOpen: () => void;
}) {
  const word = may === undefined ? "not asked" : may.allowed ? "yes" : "no";
  return (
    <Tooltip
      label={may?.reason ?? ""}
      disabled={may === undefined}
      multiline
      maw={420}
      events={{ hover: true, focus: true, touch: true }}
    >
      <UnstyledButton
        className={classes.cell}
        data-cell={id}
        data-said={word}
        tabIndex={isReached ? 0 : -1}
        aria-label={may === undefined ? "not asked yet" : `${word}: ${may.reason}`}
        aria-disabled={may === undefined}
        onFocus={onFocus}
        onClick={() => {
          if (may !== undefined) onOpen();
        }}
      >
        {may === undefined ? "–" : word}
      </UnstyledButton>
    </Tooltip>
  );
}
