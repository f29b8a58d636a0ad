import { Button, Group, Text, VisuallyHidden } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { hub } from "../../api/hub";
import type { Member } from "../../api/hub.generated";
import { AskFirst, Person, said, When } from "../../parts";
import { Mark } from "../../parts/Mark";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useReadAnew } from "../../parts/members";
import { mayGive, ROLES } from "../../parts/roles";
import { useOrganization, useSession } from "../../session/session";

/** Members, a line each, with what whoever looks may change. */
export function MembersTable({
  members,
  onChangeRole,
}: {
  members: Member[];
  onChangeRole: (member: Member) => void;
}) {
  const { me } = useSession();
  const held = useOrganization().permissions;
  const columns: ColumnDef<Member>[] = [
    {
      id: "name",
      header: "Name",
      size: 220,
      accessorFn: (member) => member.name,
      cell: ({ row: { original: member } }) => (
        <Group gap="xs" wrap="nowrap" miw={0}>
          <Person name={member.name} id={member.user} />
          {member.user === me?.user.id && <Mark>You</Mark>}
        </Group>
      ),
    },
    {
      id: "email",
      header: "Address",
      size: 260,
      accessorFn: (member) => member.email ?? "",
      cell: ({ row: { original: member } }) => (
        <Text size="sm" truncate {...(member.email === null ? { c: "dimmed" } : { title: member.email })}>
          <bdi>{member.email ?? (member.kind === "service" ? "service account" : "none")}</bdi>
        </Text>
      ),
    },
    {
      id: "role",
      header: "Role",
      size: 110,
      accessorFn: (member) => ROLES[member.role].title,
    },
    {
      id: "since",
      header: "Since",
      size: 150,
      accessorFn: (member) => member.created_at,
      cell: ({ row: { original: member } }) => <When at={member.created_at} />,
    },
    {
      id: "actions",
      header: () => <VisuallyHidden>Actions</VisuallyHidden>,
      size: 260,
      enableSorting: false,
      cell: ({ row: { original: member } }) => {
        const isSelf = member.user === me?.user.id;
        const may = mayGive(held, member.role);
        return (
          <Group gap="xs" justify="flex-end" wrap="nowrap">
            {may && (
              <Button
                size="xs"
                variant="default"
                aria-label={`Change role of ${member.name}`}
                onClick={() => {
                  onChangeRole(member);
                }}
              >
                Change role
              </Button>
            )}
            {isSelf ? <Leave member={member} /> : may && <Remove member={member} />}
          </Group>
        );
      },
    },
  ];
  return (
    <DataTable
      rows={members}
      columns={columns}
      label="Members"
      rowId={(member) => member.user}
      height="calc(100dvh - 320px)"
    />
  );
}

function Remove({ member }: { member: Member }) {
  const organization = useOrganization();
  const readAnew = useReadAnew();
  return (
    <AskFirst
      label="Remove"
      size="xs"
      title={`Remove ${member.name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/organizations/{organization}/members/{user}", {
          params: { path: { organization: organization.id, user: member.user } },
        });
        await readAnew("members", "service-accounts", "apikeys", "invitations", "devices");
      }}
      onDone={() => {
        said(`${member.name} is no member any more`);
      }}
    >
      <bdi>{member.name}</bdi> is no member of <bdi>{organization.name}</bdi> any more. What they consume and
      serve ends within seconds, and so do{" "}
      {member.kind === "service"
        ? "all API keys of this service account"
        : "the API keys they made and the invitations they sent"}
      .
    </AskFirst>
  );
}

function Leave({ member }: { member: Member }) {
  const organization = useOrganization();
  const client = useQueryClient();
  const navigate = useNavigate();
  return (
    <AskFirst
      label="Leave"
      size="xs"
      title={`Leave ${organization.name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/organizations/{organization}/members/{user}", {
          params: { path: { organization: organization.id, user: member.user } },
        });
        said(`You have left ${organization.name}`);
        await navigate({ to: "/account" });
        await client.invalidateQueries({ queryKey: ["session"] });
      }}
    >
      You are no member of <bdi>{organization.name}</bdi> any more. What you consume and serve there ends
      within seconds. To come back you need an invitation.
    </AskFirst>
  );
}
