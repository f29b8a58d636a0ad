import { Box, Button, Group, Stack, Text, Tooltip, VisuallyHidden } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";

import { hub } from "../../api/hub";
import type { ApiKey, Permission, ServiceAccount } from "../../api/hub.generated";
import { AskFirst, Nothing, said, Shown, State, When } from "../../parts";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useMembersById, useReadAnew } from "../../parts/members";
import { useNow } from "../../parts/now";
import { MAY, PERMISSIONS, ROLES } from "../../parts/roles";
import { useMay, useOrganization } from "../../session/session";
import { nearness } from "./expiry";

/** The keys, a line each. */
export function ApiKeys({
  query,
  accounts,
  onMake,
}: {
  query: UseQueryResult<ApiKey[]>;
  accounts: ServiceAccount[];
  onMake: (() => void) | undefined;
}) {
  const held = useOrganization().permissions;
  const manages = useMay()("apikeys.manage");
  const members = useMembersById();
  const now = useNow();
  const account = (key: ApiKey) => accounts.find((one) => one.id === key.service_account);
  const columns: ColumnDef<ApiKey>[] = [
    {
      id: "name",
      header: "Name",
      size: 240,
      accessorFn: (key) => key.name,
      cell: ({ row: { original: key } }) => (
        <Stack gap={0}>
          <Text size="sm" fw={500} truncate title={key.name}>
            <bdi>{key.name}</bdi>
          </Text>
          <Text size="xs" c="dimmed" truncate>
            by <bdi>{members.get(key.created_by)?.name ?? "somebody who has left"}</bdi>,{" "}
            <When at={key.created_at} />
          </Text>
        </Stack>
      ),
    },
    {
      id: "account",
      header: "Service account",
      size: 200,
      accessorFn: (key) => account(key)?.name ?? "",
      cell: ({ row: { original: key } }) => {
        const found = account(key);
        return (
          <Stack gap={0}>
            <Text size="sm" truncate title={found?.name ?? key.service_account}>
              <bdi>{found?.name ?? key.service_account}</bdi>
            </Text>
            {found !== undefined && (
              <Text size="xs" c="dimmed">
                {ROLES[found.role].title}
              </Text>
            )}
          </Stack>
        );
      },
    },
    {
      id: "scopes",
      header: "May",
      size: 180,
      accessorFn: (key) => key.scopes.length,
      cell: ({ row: { original: key } }) => <Scopes scopes={key.scopes} />,
    },
    {
      id: "used",
      header: "Last used",
      size: 130,
      accessorFn: (key) => key.last_used_at ?? "",
      cell: ({ row: { original: key } }) => <When at={key.last_used_at} />,
    },
    {
      id: "expires",
      header: "Ends",
      size: 170,
      accessorFn: (key) => key.expires_at ?? "9999",
      cell: ({ row: { original: key } }) => <Expiry at={key.expires_at} now={now} />,
    },
    {
      id: "actions",
      header: () => <VisuallyHidden>Actions</VisuallyHidden>,
      size: 130,
      enableSorting: false,
      cell: ({ row: { original: key } }) => {
        const found = account(key);
        const may = manages && found !== undefined && within(held, found, key.scopes);
        return <Box ta="right">{may && <Revoke apiKey={key} />}</Box>;
      },
    },
  ];
  return (
    <Shown query={query} rows={4}>
      {(keys) =>
        keys.length === 0 ? (
          <Nothing
            title="No API keys yet"
            action={onMake !== undefined && <Button onClick={onMake}>Make one</Button>}
          >
            A program signs in with a key as a person does with a browser. Make one for each job, so that you
            can revoke it alone.
          </Nothing>
        ) : (
          <DataTable
            rows={keys}
            columns={columns}
            label="API keys"
            rowId={(key) => key.id}
            rowHeight={56}
            initialSort={[{ id: "name", desc: false }]}
          />
        )
      }
    </Shown>
  );
}

/** Whether whoever holds `held` may revoke a key of that account: it may do no more than they may. */
function within(held: readonly Permission[], account: ServiceAccount, scopes: readonly string[]): boolean {
  return PERMISSIONS[account.role].every(
    (one) => held.includes(one) || (scopes.length > 0 && !scopes.includes(one)),
  );
}

function isPermission(scope: string): scope is Permission {
  return scope in MAY;
}

function Scopes({ scopes }: { scopes: readonly string[] }) {
  if (scopes.length === 0) return <Text size="sm">all that its role may</Text>;
  const words = scopes.map((scope) => (isPermission(scope) ? MAY[scope] : scope));
  return (
    <Tooltip
      multiline
      maw={360}
      label={
        <Stack gap={2}>
          {words.map((word) => (
            <span key={word}>{word}</span>
          ))}
        </Stack>
      }
    >
      <Text size="sm" truncate tabIndex={0}>
        {scopes.join(", ")}
      </Text>
    </Tooltip>
  );
}

function Expiry({ at, now }: { at: string | null; now: number }) {
  const near = nearness(at, now);
  if (near === "never") return <Text size="sm">when it is revoked</Text>;
  return (
    <Group gap="xs" wrap="nowrap">
      <When at={at} />
      {near === "soon" && <State tone="busy">soon</State>}
      {near === "over" && <State tone="bad">over</State>}
    </Group>
  );
}

function Revoke({ apiKey }: { apiKey: ApiKey }) {
  const organization = useOrganization().id;
  const readAnew = useReadAnew();
  return (
    <AskFirst
      label="Revoke"
      size="xs"
      title={`Revoke ${apiKey.name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/organizations/{organization}/apikeys/{key}", {
          params: { path: { organization, key: apiKey.id } },
        });
        await readAnew("apikeys");
      }}
      onDone={() => {
        said(`The API key ${apiKey.name} is revoked`);
      }}
    >
      The key <bdi>{apiKey.name}</bdi> is worth nothing from then on, and whatever it was used for ends within
      seconds. Programs that use it need another one.
    </AskFirst>
  );
}
