import { Box, Button, Group, Stack, Table, Text, VisuallyHidden } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQueryClient } from "@tanstack/react-query";

import { hub } from "../../api/hub";
import type { Me, OwnOrganization } from "../../api/hub.generated";
import { AskFirst, Nothing, said } from "../../parts";
import { CreateOrganizationDialog } from "../../parts/CreateOrganization";
import { PageLink } from "../../parts/PageLink";
import { ROLES } from "../../parts/roles";
import { Section } from "../../parts/Section";

/** Where somebody is a member, and as what. */
export function OwnOrganizations({ me }: { me: Me }) {
  const [creating, { open, close }] = useDisclosure(false);
  // An API key is of one organization, and makes no other.
  const mayCreate = me.user.kind === "person";
  const isIn = me.organizations.length > 0;
  return (
    <Section
      title="Organizations"
      action={
        mayCreate &&
        isIn && (
          <Button variant="default" size="xs" onClick={open}>
            New organization
          </Button>
        )
      }
    >
      {isIn ? (
        <Organizations me={me} />
      ) : (
        <Box my={-32}>
          <Nothing
            title="You are in no organization yet"
            action={mayCreate && <Button onClick={open}>Make an organization</Button>}
          >
            <Stack gap={4}>
              <span>
                Make one for your team, which you own. If your team has one already, ask for an invitation of{" "}
                <b>
                  <bdi>{me.user.email ?? me.user.name}</bdi>
                </b>
                , and open its link.
              </span>
            </Stack>
          </Nothing>
        </Box>
      )}
      <CreateOrganizationDialog opened={creating} onClose={close} />
    </Section>
  );
}

function Organizations({ me }: { me: Me }) {
  return (
    <Table horizontalSpacing={0}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Name</Table.Th>
          <Table.Th w={140}>Your role</Table.Th>
          <Table.Th w={100}>
            <VisuallyHidden>Actions</VisuallyHidden>
          </Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {me.organizations.map((one) => (
          <Table.Tr key={one.id}>
            <Table.Td>
              <PageLink
                to="/o/$org/spaces"
                params={{ org: one.id }}
                size="sm"
                lineClamp={3}
                title={one.name}
                style={{ overflowWrap: "anywhere" }}
              >
                <bdi>{one.name}</bdi>
              </PageLink>
            </Table.Td>
            <Table.Td>
              <Text size="sm">{ROLES[one.role].title}</Text>
            </Table.Td>
            <Table.Td>
              <Group justify="flex-end">
                <Leave organization={one} user={me.user.id} />
              </Group>
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Leave({ organization, user }: { organization: OwnOrganization; user: string }) {
  const client = useQueryClient();
  return (
    <AskFirst
      label="Leave"
      size="xs"
      title={`Leave ${organization.name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/organizations/{organization}/members/{user}", {
          params: { path: { organization: organization.id, user } },
        });
        said(`You have left ${organization.name}`);
        await client.invalidateQueries({ queryKey: ["session"] });
      }}
    >
      You are no member of <bdi>{organization.name}</bdi> any more. What you consume and serve there ends
      within seconds. To come back you need an invitation.
    </AskFirst>
  );
}
