import { PageLink } from "../../parts/PageLink";
import { useAgent } from "../../session/agent";
import { useSession } from "../../session/session";

/** To the catalog of the Teamspace that this machine is in: the Hub's for whoever is signed in there, else the agent's. */
export function CatalogLink({ children }: { children: string }) {
  const { me } = useSession();
  const teamspace = useAgent().status?.teamspace ?? null;
  const organization = me?.organizations.find((one) => one.id === teamspace?.organization_id);
  if (organization === undefined || teamspace === null)
    return (
      <PageLink to="/machine/catalog" size="sm">
        {children}
      </PageLink>
    );
  return (
    <PageLink
      to="/o/$org/spaces/$space/catalog"
      params={{ org: organization.id, space: teamspace.id }}
      size="sm"
    >
      {children}
    </PageLink>
  );
}
