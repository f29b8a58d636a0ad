import { Box, Button, Group, Text } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState, type ReactNode } from "react";

import type { Space } from "../../api/hub.generated";
import { useSpaces } from "../../app/Shell";
import { Command, Nothing, PageHead, Shown, State, When } from "../../parts";
import { PageLink } from "../../parts/PageLink";
import { DataTable, type ColumnDef } from "../../parts/DataTable";
import { useNarrow } from "../../parts/narrow";
import { useMay, useOrganization } from "../../session/session";
import { AddSpace, JoinSpace } from "./AddSpace";
import { addressOf, STATES } from "./words";

const ASK_AGAIN_MS = 15_000;

/** The Teamspaces of an organization. */
export function SpacesPage() {
  const organization = useOrganization();
  const may = useMay();
  const query = useSpaces(organization.id);
  const [adding, setAdding] = useState(false);
  const [joining, setJoining] = useState<Space | null>(null);
  useAskedAgain(organization.id);
  const manages = may("spaces.manage");
  const add = (label: string) => (
    <Button
      leftSection={<IconPlus size={16} aria-hidden />}
      onClick={() => {
        setAdding(true);
      }}
    >
      {label}
    </Button>
  );
  return (
    <>
      <PageHead
        title="Teamspaces"
        about="Each is a Kubernetes cluster that this organization consumes from and serves into."
      >
        {manages && (query.data?.length ?? 0) > 0 && add("Add Teamspace")}
      </PageHead>
      <Shown query={query}>
        {(spaces) =>
          spaces.length === 0 ? (
            <Empty manages={manages} action={add("Create your first Teamspace")} />
          ) : (
            <SpaceTable
              spaces={spaces}
              organization={organization.id}
              onJoin={manages ? setJoining : undefined}
            />
          )
        }
      </Shown>
      {manages && (
        <AddSpace
          organization={organization.id}
          opened={adding}
          onClose={() => {
            setAdding(false);
          }}
        />
      )}
      {joining !== null && (
        <JoinSpace
          organization={organization.id}
          space={joining}
          opened
          onClose={() => {
            setJoining(null);
          }}
        />
      )}
    </>
  );
}

/** That a cluster has been silent for too long tells nobody: it is seen by asking. */
function useAskedAgain(organization: string): void {
  const client = useQueryClient();
  useEffect(() => {
    const timer = window.setInterval(() => {
      void client.invalidateQueries({ queryKey: ["hub", organization, "spaces", "list"] });
    }, ASK_AGAIN_MS);
    return () => {
      window.clearInterval(timer);
    };
  }, [client, organization]);
}

function Empty({ manages, action }: { manages: boolean; action: ReactNode }) {
  return manages ? (
    <Nothing title="No Teamspace yet" action={action}>
      A Teamspace is made here and installed in its cluster by one command. From then on your team reaches
      services there by their names, and answers requests to them from laptops.
    </Nothing>
  ) : (
    <Nothing title="No Teamspace yet">
      Whoever manages Teamspaces in this organization makes them: an admin or an owner. To try Codezero
      without a cluster of your own, run a Teamspace in a box:
      <Command>czctl sandbox up</Command>
    </Nothing>
  );
}

function SpaceTable({
  spaces,
  organization,
  onJoin,
}: {
  spaces: Space[];
  organization: string;
  onJoin: ((space: Space) => void) | undefined;
}) {
  const navigate = useNavigate();
  const narrow = useNarrow();
  const columns = useMemo<ColumnDef<Space>[]>(
    () => [
      {
        id: "name",
        header: "Name",
        accessorKey: "name",
        size: 190,
        cell: ({ row }) => (
          <PageLink
            to="/o/$org/spaces/$space"
            params={{ org: organization, space: row.original.id }}
            size="sm"
            fw={500}
            truncate
            display="block"
            title={row.original.name}
          >
            <bdi>{row.original.name}</bdi>
          </PageLink>
        ),
      },
      {
        id: "state",
        header: "State",
        accessorFn: (space) => STATES[space.state].word,
        size: 220,
        cell: ({ row }) => (
          <Group gap="xs" wrap="nowrap">
            <Box style={{ flexShrink: 0 }}>
              <State tone={STATES[row.original.state].tone}>{STATES[row.original.state].word}</State>
            </Box>
            {row.original.state === "invited" && onJoin !== undefined && (
              <Button
                size="compact-xs"
                variant="default"
                aria-label={`Join a cluster as ${row.original.name}`}
                onClick={(event) => {
                  event.stopPropagation();
                  onJoin(row.original);
                }}
              >
                Join
              </Button>
            )}
          </Group>
        ),
      },
      {
        id: "address",
        header: "Address",
        accessorFn: (space) => space.host ?? "",
        size: 190,
        cell: ({ row }) => {
          const { host, port } = row.original;
          const address = host === null ? null : addressOf(host, port);
          return (
            <Text size="sm" truncate title={address ?? ""}>
              {address ?? "not yet known"}
            </Text>
          );
        },
      },
      {
        id: "release",
        header: "Release",
        accessorFn: (space) => space.release ?? "",
        size: 90,
        cell: ({ row }) => (
          <Text size="sm" truncate>
            {row.original.release ?? "–"}
          </Text>
        ),
      },
      {
        id: "seen",
        header: "Seen",
        accessorFn: (space) => (space.connected ? "9" : (space.seen_at ?? "")),
        size: 150,
        cell: ({ row }) => (
          <Text size="sm" truncate>
            {row.original.connected ? "now" : <When at={row.original.seen_at} />}
          </Text>
        ),
      },
      {
        id: "created",
        header: "Created",
        accessorKey: "created_at",
        size: 150,
        cell: ({ row }) => (
          <Text size="sm" truncate>
            <When at={row.original.created_at} />
          </Text>
        ),
      },
    ],
    [organization, onJoin],
  );
  return (
    <DataTable
      rows={spaces}
      columns={narrow ? columns.filter(({ id }) => id === "name" || id === "state") : columns}
      label="Teamspaces"
      rowId={(space) => space.id}
      initialSort={[{ id: "name", desc: false }]}
      onOpen={(space) =>
        void navigate({ to: "/o/$org/spaces/$space", params: { org: organization, space: space.id } })
      }
    />
  );
}
