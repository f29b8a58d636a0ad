import { useMutation, useQueryClient } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";
import type { Organization, OrganizationChange } from "../../api/hub.generated";
import { Problem } from "../../api/problem";

/** Change the organization that was read, and no other version of it: what somebody changed meanwhile is read anew instead. */
export function useOrganizationChange(organization: Organization, onDone: () => void) {
  const client = useQueryClient();
  const key = ["hub", organization.id, "organization", "one"];
  return useMutation({
    mutationFn: (body: OrganizationChange) =>
      told(
        hub.PATCH("/api/v1/organizations/{organization}", {
          params: {
            path: { organization: organization.id },
            header: { "if-match": `"${String(organization.version)}"` },
          },
          body,
        }),
      ),
    onSuccess: async (fresh) => {
      onDone();
      client.setQueryData(key, fresh);
      await client.invalidateQueries({ queryKey: ["session"] });
    },
    onError: async (error) => {
      if (error instanceof Problem && error.status === 412) await client.invalidateQueries({ queryKey: key });
    },
  });
}
