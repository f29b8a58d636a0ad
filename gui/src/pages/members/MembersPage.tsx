import { Button, Group, Select, Stack, Tabs, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconUserPlus } from "@tabler/icons-react";
import { useState } from "react";

import type { Member } from "../../api/hub.generated";
import { useAddress } from "../../parts/address";
import { Dialog } from "../../parts/FormDialog";
import { Nothing, PageHead, Shown } from "../../parts";
import { useMembers } from "../../parts/members";
import { ALL_ROLES, ROLES } from "../../parts/roles";
import { SearchField } from "../../parts/SearchField";
import { useMay, useOrganization } from "../../session/session";
import { ChangeRole } from "./ChangeRole";
import { fitting } from "./filter";
import { Invitations, useInvitations } from "./Invitations";
import { InviteDialog } from "./Invite";
import { MembersTable } from "./MembersTable";
import { RolesTable } from "./RolesTable";

/** Who is in the organization and as what, who was invited, and what each role may do. */
export function MembersPage() {
  const may = useMay();
  const organization = useOrganization();
  const [search, change] = useAddress();
  const members = useMembers();
  const invitations = useInvitations();
  const [inviting, { open, close }] = useDisclosure(false);
  const count = (of: unknown[] | undefined) => (of === undefined ? "" : ` (${String(of.length)})`);
  return (
    <>
      <PageHead
        title="Members"
        about={
          <>
            People and service accounts of <bdi>{organization.name}</bdi>. Each has one role, which says what
            they may do here; what they may consume and serve, the policy of each Teamspace says.
          </>
        }
      >
        {may("members.manage") && (
          <Button leftSection={<IconUserPlus size={16} aria-hidden />} onClick={open}>
            Invite
          </Button>
        )}
      </PageHead>
      <Tabs
        value={search.tab ?? "members"}
        onChange={(tab) => {
          change({ tab: tab === "members" ? "" : (tab ?? "") });
        }}
      >
        <Tabs.List mb="md">
          <Tabs.Tab value="members">Members{count(members.data)}</Tabs.Tab>
          <Tabs.Tab value="invitations">Invitations{count(invitations.data)}</Tabs.Tab>
          <Tabs.Tab value="roles">What each role may do</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="members">
          <Everybody />
        </Tabs.Panel>
        <Tabs.Panel value="invitations">
          <Invitations query={invitations} onInvite={may("members.manage") ? open : undefined} />
        </Tabs.Panel>
        <Tabs.Panel value="roles">
          <RolesTable />
        </Tabs.Panel>
      </Tabs>
      <InviteDialog opened={inviting} onClose={close} />
    </>
  );
}

function Everybody() {
  const [search, change] = useAddress();
  const members = useMembers();
  const [changed, setChanged] = useState<Member | null>(null);
  const close = () => {
    setChanged(null);
  };
  return (
    <Stack gap="md">
      <Group gap="sm">
        <SearchField
          label="Find by name or address"
          value={search.q ?? ""}
          onChange={(q) => {
            change({ q });
          }}
        />
        <Select
          aria-label="Role"
          placeholder="Any role"
          clearable
          w={160}
          data={ALL_ROLES.map((role) => ({ value: role, label: ROLES[role].title }))}
          value={search.role ?? null}
          onChange={(role) => {
            change({ role: role ?? "" });
          }}
        />
      </Group>
      <Shown query={members}>
        {(all) => {
          const found = fitting(all, search.q ?? "", search.role);
          if (found.length === 0)
            return (
              <Nothing title="Nobody fits">
                <Text size="sm">No member has that name, address or role.</Text>
              </Nothing>
            );
          return <MembersTable members={found} onChangeRole={setChanged} />;
        }}
      </Shown>
      <Dialog title="Change the role" opened={changed !== null} onClose={close}>
        {changed !== null && <ChangeRole member={changed} onDone={close} />}
      </Dialog>
    </Stack>
  );
}
