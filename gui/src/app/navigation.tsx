import {
  IconActivity,
  IconBuildingCommunity,
  IconDeviceLaptop,
  IconDevices,
  IconGauge,
  IconHistory,
  IconKey,
  IconRoute,
  IconSchema,
  IconSettings,
  IconShieldLock,
  IconUserCircle,
  IconUsers,
  type Icon,
} from "@tabler/icons-react";

import type { Permission } from "../api/hub.generated";

/** A page that the navigation leads to; those that need a permission are not offered to whoever lacks it. */
export interface Entry {
  title: string;
  icon: Icon;
  /** After `/o/$org/spaces/$space`, `/machine` or `/o/$org`. */
  path: string;
  needs?: Permission;
}

/** Pages of one Teamspace. */
export const OF_SPACE: readonly Entry[] = [
  { title: "Overview", icon: IconGauge, path: "", needs: "spaces.read" },
  { title: "Catalog", icon: IconRoute, path: "/catalog", needs: "spaces.read" },
  { title: "Graph", icon: IconSchema, path: "/graph", needs: "sessions.read" },
  { title: "People", icon: IconUsers, path: "/people", needs: "sessions.read" },
  { title: "Activity", icon: IconActivity, path: "/activity", needs: "sessions.read" },
  { title: "Policy", icon: IconShieldLock, path: "/policy", needs: "policies.read" },
];

/** Pages of the Teamspace that this machine is connected to, by its agent alone. */
export const OF_MACHINE: readonly Entry[] = [
  { title: "My machine", icon: IconDeviceLaptop, path: "" },
  { title: "Catalog", icon: IconRoute, path: "/catalog" },
  { title: "Graph", icon: IconSchema, path: "/graph" },
  { title: "People", icon: IconUsers, path: "/people" },
  { title: "Activity", icon: IconActivity, path: "/activity" },
];

/** Pages of an organization. */
export const OF_ORGANIZATION: readonly Entry[] = [
  { title: "Teamspaces", icon: IconBuildingCommunity, path: "/spaces", needs: "spaces.read" },
  { title: "Members", icon: IconUsers, path: "/members", needs: "members.read" },
  { title: "API keys", icon: IconKey, path: "/apikeys", needs: "apikeys.read" },
  { title: "Devices", icon: IconDevices, path: "/devices", needs: "devices.read" },
  { title: "Audit", icon: IconHistory, path: "/audit", needs: "audit.read" },
  { title: "Settings", icon: IconSettings, path: "/settings", needs: "organization.read" },
];

/** Pages of whoever looks. */
export const OF_ONESELF: readonly Entry[] = [{ title: "Account", icon: IconUserCircle, path: "/account" }];
