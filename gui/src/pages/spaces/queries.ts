import { useQuery, useQueryClient } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";

// A Teamspace whose cluster is gone tells nobody: that it has been silent for too long is seen by asking.
const ASK_AGAIN_MS = 15_000;

/** One Teamspace as the Hub knows it; `every` says how often it is asked for besides what the Hub tells. */
export function useSpace(organization: string, space: string, every = ASK_AGAIN_MS) {
  return useQuery({
    queryKey: ["hub", organization, "spaces", space],
    refetchInterval: every,
    queryFn: () =>
      told(
        hub.GET("/api/v1/organizations/{organization}/spaces/{space}", {
          params: { path: { organization, space } },
        }),
      ),
  });
}

/** The Hub's release and public URL. */
export function useHubVersion() {
  return useQuery({
    queryKey: ["hub", null, "version"],
    staleTime: Infinity,
    queryFn: () => told(hub.GET("/api/v1/version")),
  });
}

/** Has all that shows Teamspaces of the organization read anew. */
export function useSpacesChanged(organization: string): () => Promise<void> {
  const client = useQueryClient();
  return () => client.invalidateQueries({ queryKey: ["hub", organization, "spaces"] });
}
