import type { Permission, Role } from "../api/hub.generated";

/** The roles in words, the most first. */
export const ROLES: Record<Role, { title: string; about: string }> = {
  owner: { title: "Owner", about: "Everything, the end of the organization as well. There is always one." },
  admin: {
    title: "Admin",
    about: "Looks after members, keys, Teamspaces and policies, and reads the audit.",
  },
  developer: { title: "Developer", about: "Connects a machine, consumes and serves." },
  viewer: { title: "Viewer", about: "Sees Teamspaces and what runs in them." },
  auditor: {
    title: "Auditor",
    about: "Sees what a viewer sees, and reads the audit, keys, devices and policies.",
  },
  ci: { title: "CI", about: "A program: sees Teamspaces and connects to them." },
};

/** All roles, the most first. */
export const ALL_ROLES: readonly Role[] = ["owner", "admin", "developer", "viewer", "auditor", "ci"];

/** What each permission allows. */
export const MAY: Record<Permission, string> = {
  "organization.read": "See the organization and its settings",
  "organization.manage": "Change its name and settings",
  "organization.delete": "Delete the organization",
  "members.read": "See members and invitations",
  "members.manage": "Invite, change roles and remove members",
  "apikeys.read": "See API keys and service accounts",
  "apikeys.manage": "Make and revoke API keys and service accounts",
  "spaces.read": "See Teamspaces and their catalog",
  "spaces.manage": "Make, suspend, rotate and remove Teamspaces",
  "spaces.connect": "Connect a machine to Teamspaces",
  "policies.read": "Read policies",
  "policies.manage": "Change policies",
  "sessions.read": "See who is connected, and what they consume and serve",
  "sessions.end": "End what others consume and serve",
  "devices.read": "See the devices of members",
  "devices.manage": "Revoke devices of others",
  "audit.read": "Read, export and verify the audit",
};

/** All permissions, in the order in which people read about them. */
export const ALL_PERMISSIONS: readonly Permission[] = [
  "organization.read",
  "organization.manage",
  "organization.delete",
  "members.read",
  "members.manage",
  "apikeys.read",
  "apikeys.manage",
  "spaces.read",
  "spaces.manage",
  "spaces.connect",
  "policies.read",
  "policies.manage",
  "sessions.read",
  "sessions.end",
  "devices.read",
  "devices.manage",
  "audit.read",
];

const VIEWER: readonly Permission[] = ["organization.read", "members.read", "spaces.read", "sessions.read"];

/** What each role may do: `PERMISSIONS` of `codezero.model.roles`, which decides; here it is only told. */
export const PERMISSIONS: Record<Role, readonly Permission[]> = {
  owner: ALL_PERMISSIONS,
  admin: ALL_PERMISSIONS.filter((one) => one !== "organization.manage" && one !== "organization.delete"),
  developer: [...VIEWER, "spaces.connect", "policies.read"],
  viewer: VIEWER,
  auditor: [...VIEWER, "apikeys.read", "policies.read", "devices.read", "audit.read"],
  ci: ["organization.read", "spaces.read", "spaces.connect"],
};

/** Whether somebody who holds `held` holds all that `role` may do. */
export function holds(held: readonly Permission[], role: Role): boolean {
  return PERMISSIONS[role].every((one) => held.includes(one));
}

/** Whether somebody who holds `held` may make somebody a `role`, or take it from them: nobody gives more than they hold. */
export function mayGive(held: readonly Permission[], role: Role): boolean {
  return held.includes("members.manage") && holds(held, role);
}

/** The roles that somebody who holds `held` may give to a person or to a service account, which is never an owner. */
export function givable(held: readonly Permission[], kind: "person" | "service"): Role[] {
  return ALL_ROLES.filter((role) => mayGive(held, role) && !(kind === "service" && role === "owner"));
}
