import { Group, Stack, Text, VisuallyHidden } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { everything, hub, told } from "../../api/hub";
import type { Device, Member } from "../../api/hub.generated";
import { Nothing, PageHead, Person, Shown, When } from "../../parts";
import { useAddress } from "../../parts/address";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useMembersById } from "../../parts/members";
import { RevokeDevice } from "../../parts/RevokeDevice";
import { holds } from "../../parts/roles";
import { SearchField } from "../../parts/SearchField";
import { useMay, useOrganization, useSession } from "../../session/session";

/** The machines that members of the organization sign in at. */
export function DevicesPage() {
  const organization = useOrganization();
  const members = useMembersById();
  const [search, change] = useAddress();
  const query = useQuery({
    queryKey: ["hub", organization.id, "devices", "list"],
    // That a machine came is not told, only that one was revoked.
    refetchInterval: 30_000,
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/devices", {
            params: {
              path: { organization: organization.id },
              query: { limit: 200, cursor: cursor ?? null },
            },
          }),
        ),
      ),
  });
  return (
    <>
      <PageHead
        title="Devices"
        about={
          <>
            Machines that members of <bdi>{organization.name}</bdi> and its API keys sign in at. Each has a
            key that never leaves it.
          </>
        }
      />
      <Stack gap="md">
        <Group>
          <SearchField
            label="Find by name or owner"
            value={search.q ?? ""}
            onChange={(q) => {
              change({ q });
            }}
          />
        </Group>
        <Shown query={query}>
          {(devices) => {
            if (devices.length === 0)
              return (
                <Nothing title="No devices yet">
                  A machine is here once somebody has signed in at it with <code>czctl auth login</code>, and
                  its agent has started.
                </Nothing>
              );
            const found = fitting(devices, members, search.q ?? "");
            if (found.length === 0)
              return <Nothing title="Nothing fits">No device has that name or owner.</Nothing>;
            return <DevicesTable devices={found} members={members} />;
          }}
        </Shown>
      </Stack>
    </>
  );
}

/** The devices whose name, id or owner holds `text`. */
function fitting(devices: readonly Device[], members: ReadonlyMap<string, Member>, text: string): Device[] {
  const wanted = text.trim().toLowerCase();
  return devices.filter((device) => {
    const owner = members.get(device.user);
    return [device.name, device.id, owner?.name ?? "", owner?.email ?? ""].some((one) =>
      one.toLowerCase().includes(wanted),
    );
  });
}

function DevicesTable({ devices, members }: { devices: Device[]; members: ReadonlyMap<string, Member> }) {
  const { me } = useSession();
  const held = useOrganization().permissions;
  const manages = useMay()("devices.manage");
  const columns: ColumnDef<Device>[] = [
    {
      id: "name",
      header: "Name",
      size: 300,
      accessorFn: (device) => device.name,
      cell: ({ row: { original: device } }) => (
        <Text size="sm" fw={500} truncate title={device.name}>
          <bdi>{device.name}</bdi>
        </Text>
      ),
    },
    {
      id: "owner",
      header: "Owner",
      size: 280,
      accessorFn: (device) => members.get(device.user)?.name ?? "",
      cell: ({ row: { original: device } }) => (
        <Person name={members.get(device.user)?.name ?? ""} id={device.user} />
      ),
    },
    {
      id: "seen",
      header: "Last seen",
      size: 160,
      accessorFn: (device) => device.last_seen_at,
      cell: ({ row: { original: device } }) => <When at={device.last_seen_at} />,
    },
    {
      id: "since",
      header: "Since",
      size: 140,
      accessorFn: (device) => device.created_at,
      cell: ({ row: { original: device } }) => <When at={device.created_at} />,
    },
    {
      id: "actions",
      header: () => <VisuallyHidden>Actions</VisuallyHidden>,
      size: 120,
      enableSorting: false,
      cell: ({ row: { original: device } }) => {
        const owner = members.get(device.user);
        const may =
          device.user === me?.user.id || (manages && owner !== undefined && holds(held, owner.role));
        return (
          <Group justify="flex-end">
            {may && (
              <RevokeDevice
                device={device}
                {...(device.user === me?.user.id ? {} : { owner: owner?.name ?? "its owner" })}
              />
            )}
          </Group>
        );
      },
    },
  ];
  return (
    <DataTable
      rows={devices}
      columns={columns}
      label="Devices"
      rowId={(device) => device.id}
      initialSort={[{ id: "seen", desc: true }]}
    />
  );
}
