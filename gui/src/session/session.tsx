import { useQuery } from "@tanstack/react-query";
import { createContext, useContext, type ReactNode } from "react";

import { hub, told } from "../api/hub";
import type { Me, OwnOrganization, Permission } from "../api/hub.generated";
import { Problem } from "../api/problem";
import { keepCsrf } from "../api/send";
import { where } from "../api/where";
import { keepOffer } from "../channel/offer";

/** Who looks at this page. `me` is null at a console of somebody who is not signed in to a Hub; `problem` says why. */
export interface Session {
  me: Me | null;
  problem: Problem | null;
}

const TheSession = createContext<Session>({ me: null, problem: null });

const FIRST_ANSWER_MS = 5_000;
const SILENT = new Problem({
  status: 504,
  code: "CZ-GUI-001",
  title: "Hub not reachable",
  detail: "The Hub has not answered yet.",
  fix: "It is asked again by itself. What this machine does goes on without it.",
});

/** Ask the Hub who this is; a browser that is not signed in there goes to its sign-in page and comes back. */
async function whoIs(before: Session | undefined): Promise<Session> {
  const isConsole = where().served_by === "console";
  // At the console there is much to see without the Hub, which may be behind a network that swallows what is sent.
  const limit = isConsole && before === undefined ? { signal: AbortSignal.timeout(FIRST_ANSWER_MS) } : {};
  try {
    const me = await told(hub.GET("/api/v1/auth/me", limit));
    keepCsrf(me.csrf ?? "");
    return { me, problem: null };
  } catch (error) {
    if (error instanceof DOMException && error.name === "TimeoutError") return { me: null, problem: SILENT };
    if (!(error instanceof Problem)) throw error;
    // Whoever was signed in at a Hub still is where it cannot say so for a while.
    const isAway = (error.status >= 500 || error.status === 429) && (before?.me ?? null) !== null;
    if (isConsole && !isAway) return { me: null, problem: error };
    if (error.status === 401) {
      goToSignIn();
      return await new Promise<Session>(() => undefined);
    }
    throw error;
  }
}

/** Leave for the Hub's sign-in page, which leads back here. */
export function goToSignIn(): void {
  keepOffer();
  location.assign(
    `/sign-in?${new URLSearchParams({ return_to: location.pathname + location.search }).toString()}`,
  );
}

const SIGN_IN_LOOK_MS = 15_000;

/** Who looks, as far as it is known; kept current by what the Hub tells (`live/streams`). */
export function useSessionQuery() {
  return useQuery({
    queryKey: ["session"],
    queryFn: ({ client }) => whoIs(client.getQueryData<Session>(["session"])),
    staleTime: Infinity,
    retry: false,
    // At the console people sign in elsewhere, in a terminal.
    refetchInterval: ({ state }) => (state.data?.me === null ? SIGN_IN_LOOK_MS : false),
    refetchOnWindowFocus: ({ state }) => (state.data?.me === null ? "always" : false),
  });
}

export function SessionProvider({ session, children }: { session: Session; children: ReactNode }) {
  return <TheSession value={session}>{children}</TheSession>;
}

/** Who looks at this page. */
export function useSession(): Session {
  return useContext(TheSession);
}

const TheOrganization = createContext<OwnOrganization | null>(null);

export function OrganizationProvider({
  organization,
  children,
}: {
  organization: OwnOrganization;
  children: ReactNode;
}) {
  return <TheOrganization value={organization}>{children}</TheOrganization>;
}

/** The organization whose page this is; to be used below `/o/$org` alone. */
export function useOrganization(): OwnOrganization {
  const organization = useContext(TheOrganization);
  if (organization === null) throw new Error("useOrganization outside of an organization");
  return organization;
}

/** Whether whoever looks may do what needs `permission` in the organization whose page this is: what they may not is not offered. */
export function useMay(): (permission: Permission) => boolean {
  const organization = useContext(TheOrganization);
  return (permission) => organization?.permissions.includes(permission) ?? false;
}
