import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";

import { ProblemAlert } from "../parts";
import { InOrganization, InSpace, NotFound, OnMachine, Root, Start } from "./Root";

/** In the place of what has failed. */
function Failed({ error }: { error: unknown }) {
  return (
    <ProblemAlert
      error={error}
      again={() => {
        location.reload();
      }}
    />
  );
}

const root = createRootRoute({
  component: Root,
  notFoundComponent: NotFound,
  errorComponent: Failed,
});

const start = createRoute({ getParentRoute: () => root, path: "/", component: Start });
const account = createRoute({
  getParentRoute: () => root,
  path: "/account",
  component: lazyRouteComponent(() => import("../pages/account/AccountPage"), "AccountPage"),
});
const pair = createRoute({
  getParentRoute: () => root,
  path: "/pair",
  component: lazyRouteComponent(() => import("../pages/pair/PairPage"), "PairPage"),
});

const machine = createRoute({ getParentRoute: () => root, path: "/machine", component: OnMachine });
const organization = createRoute({ getParentRoute: () => root, path: "/o/$org", component: InOrganization });
const space = createRoute({ getParentRoute: () => organization, path: "/spaces/$space", component: InSpace });

// What people filter, sort and open is in the address, as text: it can be sent to somebody, and is there again after a reload.
const validateSearch = (search: Record<string, unknown>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(search).map(([name, value]) => [name, typeof value === "string" ? value : String(value)]),
  );

const catalog = lazyRouteComponent(() => import("../pages/catalog/CatalogPage"), "CatalogPage");
const graph = lazyRouteComponent(() => import("../pages/graph/GraphPage"), "GraphPage");
const people = lazyRouteComponent(() => import("../pages/people/PeoplePage"), "PeoplePage");
const activity = lazyRouteComponent(() => import("../pages/activity/ActivityPage"), "ActivityPage");

const onMachine = [
  createRoute({
    getParentRoute: () => machine,
    path: "/",
    component: lazyRouteComponent(() => import("../pages/machine/MachinePage"), "MachinePage"),
  }),
  createRoute({ getParentRoute: () => machine, path: "/catalog", component: catalog, validateSearch }),
  createRoute({ getParentRoute: () => machine, path: "/graph", component: graph, validateSearch }),
  createRoute({ getParentRoute: () => machine, path: "/people", component: people, validateSearch }),
  createRoute({ getParentRoute: () => machine, path: "/activity", component: activity, validateSearch }),
];

const inSpace = [
  createRoute({
    getParentRoute: () => space,
    path: "/",
    component: lazyRouteComponent(() => import("../pages/spaces/SpacePage"), "SpacePage"),
  }),
  createRoute({ getParentRoute: () => space, path: "/catalog", component: catalog, validateSearch }),
  createRoute({ getParentRoute: () => space, path: "/graph", component: graph, validateSearch }),
  createRoute({ getParentRoute: () => space, path: "/people", component: people, validateSearch }),
  createRoute({ getParentRoute: () => space, path: "/activity", component: activity, validateSearch }),
  createRoute({
    getParentRoute: () => space,
    path: "/policy",
    validateSearch,
    component: lazyRouteComponent(() => import("../pages/policy/PolicyPage"), "PolicyPage"),
  }),
];

const inOrganization = [
  createRoute({
    getParentRoute: () => organization,
    path: "/spaces",
    component: lazyRouteComponent(() => import("../pages/spaces/SpacesPage"), "SpacesPage"),
  }),
  createRoute({
    getParentRoute: () => organization,
    path: "/members",
    validateSearch,
    component: lazyRouteComponent(() => import("../pages/members/MembersPage"), "MembersPage"),
  }),
  createRoute({
    getParentRoute: () => organization,
    path: "/apikeys",
    validateSearch,
    component: lazyRouteComponent(() => import("../pages/apikeys/ApiKeysPage"), "ApiKeysPage"),
  }),
  createRoute({
    getParentRoute: () => organization,
    path: "/devices",
    validateSearch,
    component: lazyRouteComponent(() => import("../pages/devices/DevicesPage"), "DevicesPage"),
  }),
  createRoute({
    getParentRoute: () => organization,
    path: "/audit",
    validateSearch,
    component: lazyRouteComponent(() => import("../pages/audit/AuditPage"), "AuditPage"),
  }),
  createRoute({
    getParentRoute: () => organization,
    path: "/settings",
    component: lazyRouteComponent(() => import("../pages/settings/SettingsPage"), "SettingsPage"),
  }),
];

const tree = root.addChildren([
  start,
  account,
  pair,
  machine.addChildren(onMachine),
  organization.addChildren([...inOrganization, space.addChildren(inSpace)]),
]);

export const router = createRouter({
  routeTree: tree,
  basepath: "/ui",
  defaultPreload: "intent",
  // Of a page: what stands around it stays.
  defaultErrorComponent: Failed,
  // Plain texts, so that addresses can be read: `?q=orders` and not `?q="orders"`.
  parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (search: Record<string, unknown>) => {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(search))
      if (typeof value === "string" && value !== "") parameters.set(name, value);
    const text = parameters.toString();
    return text === "" ? "" : `?${text}`;
  },
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
