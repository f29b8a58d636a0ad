import { useQuery, type UseQueryResult } from "@tanstack/react-query";

import { everything, hub, told } from "../../api/hub";
import type { ApiKey, ServiceAccount } from "../../api/hub.generated";
import { useOrganization } from "../../session/session";

/** The API keys that are not revoked. */
export function useApiKeys(): UseQueryResult<ApiKey[]> {
  const organization = useOrganization().id;
  return useQuery({
    queryKey: ["hub", organization, "apikeys", "list"],
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/apikeys", {
            params: { path: { organization }, query: { limit: 200, cursor: cursor ?? null } },
          }),
        ),
      ),
  });
}

/** The accounts for programs. */
export function useServiceAccounts(): UseQueryResult<ServiceAccount[]> {
  const organization = useOrganization().id;
  return useQuery({
    queryKey: ["hub", organization, "service-accounts", "list"],
    queryFn: () =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/service-accounts", {
            params: { path: { organization }, query: { limit: 200, cursor: cursor ?? null } },
          }),
        ),
      ),
  });
}
