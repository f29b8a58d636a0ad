import {
  ActionIcon,
  AppShell,
  Avatar,
  Badge,
  Box,
  Burger,
  Button,
  Group,
  Kbd,
  Menu,
  NavLink,
  ScrollArea,
  Select,
  Text,
  Tooltip,
  UnstyledButton,
  VisuallyHidden,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Spotlight, spotlight, type SpotlightActionData } from "@mantine/spotlight";
import { IconLogout, IconMoon, IconSearch, IconSun, IconUserCircle } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useRouterState } from "@tanstack/react-router";
import { useEffect } from "react";

import { everything, hub, told } from "../api/hub";
import { where } from "../api/where";
import { useChannel } from "../channel/channel";
import { WAYS } from "../channel/words";
import { useLiveness } from "../live/state";
import { followAgent, followHub } from "../live/streams";
import { colourOf, refused } from "../parts";
import { useAgent } from "../session/agent";
import { goToSignIn, useSession } from "../session/session";
import { OF_MACHINE, OF_ONESELF, OF_ORGANIZATION, OF_SPACE, type Entry } from "./navigation";

/** The Teamspaces of an organization. */
export function useSpaces(organization: string | undefined) {
  return useQuery({
    queryKey: ["hub", organization, "spaces", "list"],
    enabled: organization !== undefined,
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/spaces", {
            params: {
              path: { organization: organization ?? "" },
              query: { limit: 200, cursor: cursor ?? null },
            },
          }),
        ),
      ),
  });
}

/** What stands around every page. */
export function Shell() {
  const client = useQueryClient();
  const { me } = useSession();
  const channel = useChannel();
  const { way } = channel;
  // Which machine it is; nothing of another one stays.
  const machine = "pairing" in channel ? channel.pairing.id : way === "console" ? "console" : undefined;
  const isSignedIn = me !== null;
  useEffect(() => {
    const stop = new AbortController();
    if (isSignedIn) followHub(client, stop.signal);
    return () => {
      stop.abort();
    };
  }, [client, isSignedIn]);
  useEffect(() => {
    const stop = new AbortController();
    if (way !== "none" && way !== "looking") followAgent(client, stop.signal);
    return () => {
      stop.abort();
    };
  }, [client, way, machine]);
  useEffect(
    () => () => {
      if (machine !== undefined) client.removeQueries({ queryKey: ["agent"] });
    },
    [client, machine],
  );

  const [opened, { toggle, close }] = useDisclosure(false);
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(close, [path, close]);
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 232, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding="lg"
    >
      <a href="#main" className="skip">
        Skip to the page
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label="Navigation" />
            <UnstyledButton component={Link} to="/" title="Start">
              <Group gap={8} wrap="nowrap">
                <img src="/ui/icon.svg" alt="" width={24} height={24} />
                <Text fw={650} visibleFrom="xs">
                  Codezero
                </Text>
              </Group>
            </UnstyledButton>
            <Badge variant="default" radius="sm" tt="none" fw={500} visibleFrom="md">
              {where().served_by === "console" ? "Local console" : "Hub"}
            </Badge>
          </Group>
          <Button
            variant="default"
            size="xs"
            leftSection={<IconSearch size={14} aria-hidden />}
            rightSection={<Kbd size="xs">/</Kbd>}
            onClick={spotlight.open}
            visibleFrom="xs"
          >
            Go to
          </Button>
          <Group gap="xs" wrap="nowrap">
            <LiveBadge />
            <Scheme />
            <UserMenu />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="sm">
        <Navigation />
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1}>
        <Outlet />
      </AppShell.Main>
      <GoTo />
    </AppShell>
  );
}

function LiveBadge() {
  const { me } = useSession();
  const fromHub = useLiveness("hub");
  const fromAgent = useLiveness("agent");
  const isOfMachine = useRouterState({ select: (state) => /^\/machine(\/|$)/.test(state.location.pathname) });
  const { channel } = useAgent();
  const isByAgent = me === null || (isOfMachine && channel !== "none");
  const looked = isByAgent ? fromAgent : fromHub;
  const words = { live: "Live", connecting: "Connecting", stale: "Not live" }[looked.liveness];
  const what = isByAgent ? "the agent of this machine" : "the Hub";
  return (
    <Tooltip
      label={
        looked.liveness === "live"
          ? `Changes come from ${what} as they happen`
          : `${what} does not tell what changes; what you see may be old`
      }
    >
      <Badge
        variant="dot"
        radius="sm"
        tt="none"
        fw={500}
        color={looked.liveness === "live" ? "teal" : "yellow"}
        role="status"
      >
        {words}
      </Badge>
    </Tooltip>
  );
}

function Scheme() {
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light");
  const other = scheme === "dark" ? "light" : "dark";
  return (
    <Tooltip label={`Change to ${other}`}>
      <ActionIcon
        variant="subtle"
        color="gray"
        aria-label={`Change to ${other} colours`}
        onClick={() => {
          setColorScheme(other);
        }}
      >
        {scheme === "dark" ? <IconSun size={18} aria-hidden /> : <IconMoon size={18} aria-hidden />}
      </ActionIcon>
    </Tooltip>
  );
}

function UserMenu() {
  const { me } = useSession();
  if (me === null) return null;
  const leave = async () => {
    try {
      await hub.POST("/api/v1/auth/logout");
      goToSignIn();
    } catch (error) {
      refused(error);
    }
  };
  return (
    <Menu position="bottom-end" width={220} withInitialFocusPlaceholder={false}>
      <Menu.Target>
        <UnstyledButton>
          <VisuallyHidden>You: {me.user.name}</VisuallyHidden>
          <span aria-hidden>
            <Avatar variant="filled" name={me.user.name} size={30} color={colourOf(me.user.id)} alt="" />
          </span>
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          <bdi>{me.user.name}</bdi>
          {me.user.email !== null && (
            <Text size="xs" truncate>
              <bdi>{me.user.email}</bdi>
            </Text>
          )}
        </Menu.Label>
        <Menu.Item component={Link} to="/account" leftSection={<IconUserCircle size={16} aria-hidden />}>
          Account
        </Menu.Item>
        {where().served_by === "hub" && (
          <Menu.Item leftSection={<IconLogout size={16} aria-hidden />} onClick={() => void leave()}>
            Sign out
          </Menu.Item>
        )}
      </Menu.Dropdown>
    </Menu>
  );
}

interface Place {
  organization: string | undefined;
  space: string | undefined;
}

/** The organization and Teamspace that the address names; those looked at last where it names none. */
function usePlace(): Place {
  const named: { org?: string; space?: string } = useParams({ strict: false });
  const { me } = useSession();
  const organization = named.org ?? (me?.organizations.length === 1 ? me.organizations[0]?.id : undefined);
  return { organization, space: named.space };
}

function usePages(): { heading: string; base: string; entries: Entry[] }[] {
  const { me } = useSession();
  const { organization, space } = usePlace();
  const spaces = useSpaces(organization);
  const found = me?.organizations.find((one) => one.id === organization);
  const may = (entry: Entry) =>
    entry.needs === undefined || (found?.permissions.includes(entry.needs) ?? false);
  const groups: { heading: string; base: string; entries: Entry[] }[] = [];
  if (organization !== undefined && space !== undefined) {
    const name = spaces.data?.find((one) => one.id === space)?.name ?? "";
    groups.push({
      heading: `Teamspace ${name}`,
      base: `/o/${organization}/spaces/${space}`,
      entries: OF_SPACE.filter(may),
    });
  }
  if (organization !== undefined && found !== undefined)
    groups.push({
      heading: `Organization ${found.name}`,
      base: `/o/${organization}`,
      entries: OF_ORGANIZATION.filter(may),
    });
  if (where().served_by === "console")
    groups.push({
      heading: "This machine",
      base: "/machine",
      entries: me === null ? [...OF_MACHINE] : OF_MACHINE.slice(0, 1),
    });
  else groups.push({ heading: "This machine", base: "/machine", entries: OF_MACHINE.slice(0, 1) });
  if (me !== null) groups.push({ heading: "You", base: "", entries: [...OF_ONESELF] });
  return groups;
}

function Navigation() {
  const groups = usePages();
  const path = useRouterState({ select: (state) => state.location.pathname.replace(/\/$/, "") });
  return (
    <>
      <PlaceSelect />
      <ScrollArea flex={1} mx={-4} px={4} type="never" component="nav" aria-label="Pages">
        {groups.map((group) => (
          <Box key={group.heading + group.base} mb="sm">
            <Text size="xs" fw={600} c="dimmed" px={8} mb={4} truncate>
              <bdi>{group.heading}</bdi>
            </Text>
            {group.entries.map((entry) => (
              <NavLink
                key={entry.path}
                component={Link}
                to={group.base + entry.path}
                activeOptions={{ exact: true }}
                label={entry.title}
                active={path === group.base + entry.path}
                aria-current={path === group.base + entry.path ? "page" : undefined}
                py={4}
                leftSection={<entry.icon size={17} stroke={1.6} aria-hidden />}
                style={{ borderRadius: "var(--mantine-radius-md)" }}
              />
            ))}
          </Box>
        ))}
      </ScrollArea>
      <AgentLine />
    </>
  );
}

function PlaceSelect() {
  const { me } = useSession();
  const { organization, space } = usePlace();
  const spaces = useSpaces(organization);
  const navigate = useNavigate();
  if (me === null || organization === undefined) return null;
  const organizations = me.organizations.map((one) => ({ value: one.id, label: one.name }));
  const found = (spaces.data ?? [])
    .filter((one) => one.state !== "removed")
    .map((one) => ({ value: one.id, label: one.name }));
  return (
    <Box mb="md">
      {organizations.length > 1 && (
        <Select
          size="sm"
          mb="xs"
          aria-label="Organization"
          data={organizations}
          value={organization}
          allowDeselect={false}
          searchable={organizations.length > 8}
          onChange={(value) => {
            if (value !== null) void navigate({ to: "/o/$org/spaces", params: { org: value } });
          }}
        />
      )}
      {found.length > 0 && (
        <Select
          size="sm"
          aria-label="Teamspace"
          placeholder="Choose a Teamspace"
          data={found}
          value={space ?? null}
          allowDeselect={false}
          searchable={found.length > 8}
          onChange={(value) => {
            if (value !== null)
              void navigate({ to: "/o/$org/spaces/$space", params: { org: organization, space: value } });
          }}
        />
      )}
    </Box>
  );
}

/** How the agent of this machine is, and how this page reaches it, always in sight. */
function AgentLine() {
  const channel = useChannel();
  const { status, problem } = useAgent();
  // Without a pairing there is nothing to be said of a machine; its page says how to get one.
  if (!("pairing" in channel) && channel.way !== "console") return null;
  const words =
    channel.way === "none"
      ? "Machine not reached"
      : problem !== undefined
        ? "Agent not running"
        : status === undefined
          ? "Asking the agent"
          : status.tunnel.state === "connected"
            ? `Connected to ${status.teamspace?.name ?? "a Teamspace"}`
            : status.teamspace === null
              ? "Agent has no Teamspace"
              : "Agent is connecting";
  return (
    <UnstyledButton component={Link} to="/machine" p={8}>
      <Badge
        variant="dot"
        color={status?.tunnel.state === "connected" ? "teal" : "yellow"}
        radius="sm"
        tt="none"
        fw={500}
        maw="100%"
      >
        {words}
      </Badge>
      {channel.way !== "none" && (
        <Text size="xs" c="dimmed" mt={4}>
          This machine: {WAYS[channel.way]}
          {"pairing" in channel && !channel.pairing.acts && ", reading only"}
        </Text>
      )}
    </UnstyledButton>
  );
}

/** All pages by their names, by the keyboard. */
function GoTo() {
  const groups = usePages();
  const navigate = useNavigate();
  const { organization } = usePlace();
  const spaces = useSpaces(organization);
  const pages: SpotlightActionData[] = groups.flatMap((group) =>
    group.entries.map((entry) => ({
      id: group.base + entry.path,
      label: entry.title,
      description: group.heading,
      onClick: () => void navigate({ to: group.base + entry.path }),
    })),
  );
  const others: SpotlightActionData[] = (spaces.data ?? [])
    .filter((space) => space.state !== "removed")
    .map((space) => ({
      id: space.id,
      label: space.name,
      description: "Teamspace",
      onClick: () =>
        void navigate({ to: "/o/$org/spaces/$space", params: { org: organization ?? "", space: space.id } }),
    }));
  return (
    <Spotlight
      actions={[...pages, ...others]}
      shortcut={["mod + K", "/"]}
      attributes={{ content: { "aria-label": "Go to" } }}
      nothingFound="There is no such page"
      highlightQuery
      limit={12}
      searchProps={{
        leftSection: <IconSearch size={18} aria-hidden />,
        placeholder: "Go to a page or Teamspace",
        "aria-label": "Go to",
      }}
    />
  );
}
