import { Box, Button, VisuallyHidden } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";

import { hub } from "../../api/hub";
import type { ApiKey, ServiceAccount } from "../../api/hub.generated";
import { AskFirst, Nothing, Person, said, Shown, When } from "../../parts";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useReadAnew } from "../../parts/members";
import { mayGive, ROLES } from "../../parts/roles";
import { useMay, useOrganization } from "../../session/session";

/** The accounts for programs, a line each. */
export function ServiceAccounts({
  query,
  keys,
  onMake,
}: {
  query: UseQueryResult<ServiceAccount[]>;
  keys: readonly ApiKey[];
  onMake: (() => void) | undefined;
}) {
  const held = useOrganization().permissions;
  const manages = useMay()("apikeys.manage");
  const keysOf = (account: ServiceAccount) => keys.filter((key) => key.service_account === account.id).length;
  const columns: ColumnDef<ServiceAccount>[] = [
    {
      id: "name",
      header: "Name",
      size: 360,
      accessorFn: (account) => account.name,
      cell: ({ row: { original: account } }) => <Person name={account.name} id={account.id} />,
    },
    { id: "role", header: "Role", size: 160, accessorFn: (account) => ROLES[account.role].title },
    { id: "keys", header: "Keys", size: 120, accessorFn: keysOf },
    {
      id: "since",
      header: "Since",
      size: 180,
      accessorFn: (account) => account.created_at,
      cell: ({ row: { original: account } }) => <When at={account.created_at} />,
    },
    {
      id: "actions",
      header: () => <VisuallyHidden>Actions</VisuallyHidden>,
      size: 180,
      enableSorting: false,
      cell: ({ row: { original: account } }) => (
        <Box ta="right">
          {manages && mayGive(held, account.role) && <Remove account={account} keys={keysOf(account)} />}
        </Box>
      ),
    },
  ];
  return (
    <Shown query={query} rows={4}>
      {(accounts) =>
        accounts.length === 0 ? (
          <Nothing
            title="No service accounts yet"
            action={onMake !== undefined && <Button onClick={onMake}>Make one</Button>}
          >
            A new API key brings one of its own. Make one here where several keys shall stand for the same
            program.
          </Nothing>
        ) : (
          <DataTable
            rows={accounts}
            columns={columns}
            label="Service accounts"
            rowId={(account) => account.id}
            initialSort={[{ id: "name", desc: false }]}
          />
        )
      }
    </Shown>
  );
}

function Remove({ account, keys }: { account: ServiceAccount; keys: number }) {
  const organization = useOrganization().id;
  const readAnew = useReadAnew();
  return (
    <AskFirst
      label="Remove"
      size="xs"
      title={`Remove ${account.name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/organizations/{organization}/service-accounts/{account}", {
          params: { path: { organization, account: account.id } },
        });
        await readAnew("service-accounts", "apikeys", "members");
      }}
      onDone={() => {
        said(`The service account ${account.name} is removed`);
      }}
    >
      The service account <bdi>{account.name}</bdi> ends
      {keys > 0 && (keys === 1 ? ", and so does its key" : `, and so do its ${String(keys)} keys`)}. Whatever
      they were used for ends within seconds.
    </AskFirst>
  );
}
