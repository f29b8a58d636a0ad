import { Center, Container, Loader } from "@mantine/core";
import { Navigate, Outlet, useParams } from "@tanstack/react-router";
import { useEffect, useState } from "react";

import { keepChannel } from "../channel/channel";
import { ConfirmDialog } from "../channel/ConfirmDialog";
import { useAgent } from "../session/agent";
import { OrganizationProvider, SessionProvider, useSession, useSessionQuery } from "../session/session";
import { SpaceProvider } from "../space/source";
import { Nothing, PageHead, ProblemAlert } from "../parts";
import { Shell } from "./Shell";

/** Nothing is shown before it is known who looks. */
export function Root() {
  const session = useSessionQuery();
  const isKnown = session.data !== undefined;
  const user = session.data?.me?.user.id;
  useEffect(() => {
    const stop = new AbortController();
    if (isKnown) keepChannel(user, stop.signal);
    return () => {
      stop.abort();
    };
  }, [isKnown, user]);
  if (session.isPending)
    return (
      <Center h="100dvh">
        <Loader aria-label="Loading" />
      </Center>
    );
  // Whoever was known stays so where that cannot be asked again: what they are typing is not taken from them.
  if (session.data === undefined)
    return (
      <Container size="sm" pt={120}>
        <ProblemAlert error={session.error} again={() => void session.refetch()} />
      </Container>
    );
  return (
    <SessionProvider session={session.data}>
      <Shell />
      <ConfirmDialog />
    </SessionProvider>
  );
}

// A machine that answers slowly keeps nobody from the first page.
const START_MS = 3_000;

/** The first page: where most people go on. */
export function Start() {
  const { me } = useSession();
  const agent = useAgent();
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = window.setTimeout(() => {
      setLate(true);
    }, START_MS);
    return () => {
      window.clearTimeout(timer);
    };
  }, []);
  if (me === null) return <Navigate to="/machine" replace />;
  const teamspace = agent.status?.teamspace;
  const here = me.organizations.find((one) => one.id === teamspace?.organization_id);
  const first = here ?? me.organizations[0];
  if (agent.isLoading && !isLate) return null;
  if (here !== undefined && teamspace !== undefined && teamspace !== null)
    return (
      <Navigate to="/o/$org/spaces/$space/catalog" params={{ org: here.id, space: teamspace.id }} replace />
    );
  if (first !== undefined) return <Navigate to="/o/$org/spaces" params={{ org: first.id }} replace />;
  return <Navigate to="/account" replace />;
}

/** Pages of one organization. */
export function InOrganization() {
  const { org } = useParams({ strict: false });
  const { me, problem } = useSession();
  // At a console: it is not known whether this is there.
  if (problem !== null) return <ProblemAlert error={problem} />;
  const organization = me?.organizations.find((one) => one.id === org);
  if (organization === undefined) return <NotFound />;
  return (
    <OrganizationProvider organization={organization} key={organization.id}>
      <Outlet />
    </OrganizationProvider>
  );
}

/** Pages of one Teamspace, as the Hub knows it. */
export function InSpace() {
  const { org, space } = useParams({ strict: false });
  return (
    <SpaceProvider source={{ kind: "hub", organization: org ?? "", space: space ?? "" }} key={space}>
      <Outlet />
    </SpaceProvider>
  );
}

/** Pages of the Teamspace that this machine is connected to, by its agent. */
export function OnMachine() {
  return (
    <SpaceProvider source={{ kind: "agent" }}>
      <Outlet />
    </SpaceProvider>
  );
}

export function NotFound() {
  return (
    <>
      <PageHead title="Not here" />
      <Nothing title="There is nothing at this address">
        It may have been removed, or you may not see it. The navigation has the pages that are there for you.
      </Nothing>
    </>
  );
}
