import { Box } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { hub } from "../../api/hub";
import type { Organization } from "../../api/hub.generated";
import { AskFirst, said } from "../../parts";
import { Section } from "../../parts/Section";

/** The end of an organization. */
export function DeleteOrganization({ organization }: { organization: Organization }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  return (
    <Section
      title="Delete the organization"
      about="Its Teamspaces, service accounts, API keys and invitations end with it. Its audit stays on the Hub for as long as it is kept."
      tone="danger"
      action={
        <Box style={{ flexShrink: 0 }}>
          <AskFirst
            label="Delete"
            size="xs"
            title={`Delete ${organization.name}?`}
            type={organization.name}
            action={async () => {
              await hub.DELETE("/api/v1/organizations/{organization}", {
                params: {
                  path: { organization: organization.id },
                  header: { "if-match": `"${String(organization.version)}"` },
                },
              });
              said(`${organization.name} is deleted`);
              await navigate({ to: "/account" });
              client.removeQueries({ queryKey: ["hub", organization.id] });
              await client.invalidateQueries({ queryKey: ["session"] });
            }}
          >
            This cannot be taken back. All members lose <bdi>{organization.name}</bdi>, and whatever they
            consume and serve in its Teamspaces ends within seconds. What Teamspaces have installed in
            clusters stays there: whoever runs a cluster removes it with{" "}
            <code>czctl teamspace uninstall</code>.
          </AskFirst>
        </Box>
      }
    />
  );
}
