import { useQuery, useQueryClient, type UseQueryResult } from "@tanstack/react-query";
import { useMemo } from "react";

import { everything, hub, told } from "../api/hub";
import type { Member } from "../api/hub.generated";
import { useMay, useOrganization } from "../session/session";

/** The members of the organization whose page this is, people and service accounts; asked by those alone who may see them. */
export function useMembers(): UseQueryResult<Member[]> {
  const organization = useOrganization().id;
  const enabled = useMay()("members.read");
  return useQuery({
    queryKey: ["hub", organization, "members", "list"],
    enabled,
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/members", {
            params: { path: { organization }, query: { limit: 200, cursor: cursor ?? null } },
          }),
        ),
      ),
  });
}

/** The members by their ids; empty where whoever looks may not see them. */
export function useMembersById(): ReadonlyMap<string, Member> {
  const { data } = useMembers();
  return useMemo(() => new Map((data ?? []).map((member) => [member.user, member])), [data]);
}

/** Have those kinds of the organization whose page this is read anew (`src/live/streams.ts`), before others are told. */
export function useReadAnew(): (...kinds: string[]) => Promise<void> {
  const client = useQueryClient();
  const organization = useOrganization().id;
  return async (...kinds) => {
    await Promise.all(
      kinds.map((kind) => client.invalidateQueries({ queryKey: ["hub", organization, kind] })),
    );
  };
}
