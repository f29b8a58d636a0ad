import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import { everything, hub, told } from "../api/hub";
import { useAgent } from "../session/agent";
import { useSession } from "../session/session";
import { useLaptops } from "./laptops";
import { useSource } from "./source";

/** The names of people by their ids: from whoever is connected, from the members of the organization where they may be read, and one's own. */
export function useNames(): (user: string) => string | undefined {
  const source = useSource();
  const { me } = useSession();
  const agent = useAgent();
  const teamspace = agent.status?.teamspace;
  const organization =
    source.kind === "hub" ? source.organization : (teamspace?.organization_id ?? undefined);
  const own = me?.organizations.find((one) => one.id === organization);
  const members = useQuery({
    queryKey: ["hub", organization, "members", "list"],
    enabled: own?.permissions.includes("members.read") ?? false,
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/members", {
            params: {
              path: { organization: organization ?? "" },
              query: { limit: 200, cursor: cursor ?? null },
            },
          }),
        ),
      ),
  });
  const laptops = useLaptops();
  return useMemo(() => {
    const names = new Map<string, string>();
    const add = (user: string, name: string) => {
      if (user !== "" && name !== "") names.set(user, name);
    };
    for (const laptop of laptops.data?.items ?? []) add(laptop.user, laptop.userName);
    for (const member of members.data ?? []) add(member.user, member.name);
    if (teamspace !== undefined && teamspace !== null) add(teamspace.user_id, teamspace.user);
    if (me !== null) add(me.user.id, me.user.name);
    return (user) => names.get(user);
  }, [laptops.data, members.data, teamspace, me]);
}
