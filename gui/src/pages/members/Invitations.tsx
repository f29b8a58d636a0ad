import { Button, Text, VisuallyHidden } from "@mantine/core";
import { useQuery, type UseQueryResult } from "@tanstack/react-query";

import { everything, hub, told } from "../../api/hub";
import type { Invitation } from "../../api/hub.generated";
import { AskFirst, Nothing, said, Shown, When } from "../../parts";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useMembersById, useReadAnew } from "../../parts/members";
import { mayGive, ROLES } from "../../parts/roles";
import { useMay, useOrganization } from "../../session/session";

/** The invitations that are open. */
export function useInvitations(): UseQueryResult<Invitation[]> {
  const organization = useOrganization().id;
  const enabled = useMay()("members.read");
  return useQuery({
    queryKey: ["hub", organization, "invitations", "list"],
    enabled,
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/invitations", {
            params: { path: { organization }, query: { limit: 200, cursor: cursor ?? null } },
          }),
        ),
      ),
  });
}

/** Who was invited and has not come yet. */
export function Invitations({
  query,
  onInvite,
}: {
  query: UseQueryResult<Invitation[]>;
  onInvite: (() => void) | undefined;
}) {
  const held = useOrganization().permissions;
  const members = useMembersById();
  const columns: ColumnDef<Invitation>[] = [
    {
      id: "email",
      header: "Address",
      size: 380,
      accessorFn: (one) => one.email,
      cell: ({ row: { original: one } }) => (
        <Text size="sm" truncate title={one.email}>
          <bdi>{one.email}</bdi>
        </Text>
      ),
    },
    { id: "role", header: "Role", size: 120, accessorFn: (one) => ROLES[one.role].title },
    {
      id: "by",
      header: "Invited by",
      size: 200,
      accessorFn: (one) => members.get(one.invited_by)?.name ?? "",
      cell: ({ row: { original: one } }) => (
        <Text size="sm" truncate>
          <bdi>{members.get(one.invited_by)?.name ?? "Somebody who has left"}</bdi>
        </Text>
      ),
    },
    {
      id: "expires",
      header: "Ends",
      size: 150,
      accessorFn: (one) => one.expires_at,
      cell: ({ row: { original: one } }) => <When at={one.expires_at} />,
    },
    {
      id: "actions",
      header: () => <VisuallyHidden>Actions</VisuallyHidden>,
      size: 150,
      enableSorting: false,
      cell: ({ row: { original: one } }) => mayGive(held, one.role) && <Revoke invitation={one} />,
    },
  ];
  return (
    <Shown query={query} rows={3}>
      {(invitations) =>
        invitations.length === 0 ? (
          <Nothing
            title="Nobody is waiting"
            action={onInvite !== undefined && <Button onClick={onInvite}>Invite somebody</Button>}
          >
            Whoever was invited is shown here until they have come, for a week at most.
          </Nothing>
        ) : (
          <DataTable
            rows={invitations}
            columns={columns}
            label="Invitations"
            rowId={(one) => one.id}
            initialSort={[{ id: "expires", desc: true }]}
          />
        )
      }
    </Shown>
  );
}

function Revoke({ invitation }: { invitation: Invitation }) {
  const organization = useOrganization().id;
  const readAnew = useReadAnew();
  return (
    <Text component="div" ta="right">
      <AskFirst
        label="Revoke"
        size="xs"
        title={`Revoke the invitation of ${invitation.email}?`}
        action={async () => {
          await hub.DELETE("/api/v1/organizations/{organization}/invitations/{invitation}", {
            params: { path: { organization, invitation: invitation.id } },
          });
          await readAnew("invitations");
        }}
        onDone={() => {
          said(`The invitation of ${invitation.email} is revoked`);
        }}
      >
        The link that was made for <bdi>{invitation.email}</bdi> is worth nothing from then on. You can invite
        them again.
      </AskFirst>
    </Text>
  );
}
