import { Box, Stack, Table, Text } from "@mantine/core";
import { IconCheck } from "@tabler/icons-react";

import { ALL_PERMISSIONS, ALL_ROLES, MAY, PERMISSIONS, ROLES } from "../../parts/roles";
import { useOrganization } from "../../session/session";

/** What each role may do, in words. */
export function RolesTable() {
  const own = useOrganization().role;
  return (
    <Stack gap="md">
      <Text size="sm" maw={720}>
        Nobody gives a role that may do more than they may themselves. A person has one role in each
        organization; you are <b>{ROLES[own].title.toLowerCase()}</b> here.
      </Text>
      <Table.ScrollContainer minWidth={820} type="native">
        <Table withTableBorder verticalSpacing={6} stickyHeader={false}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>May</Table.Th>
              {ALL_ROLES.map((role) => (
                <Table.Th key={role} ta="center" w={96}>
                  {ROLES[role].title}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {ALL_PERMISSIONS.map((permission) => (
              <Table.Tr key={permission}>
                <Table.Th scope="row" fw={400}>
                  {MAY[permission]}
                  <Text size="xs" c="dimmed" ff="monospace">
                    {permission}
                  </Text>
                </Table.Th>
                {ALL_ROLES.map((role) => (
                  <Table.Td key={role} ta="center">
                    {PERMISSIONS[role].includes(permission) ? (
                      <IconCheck size={18} role="img" aria-label="yes" color="var(--codezero-accent)" />
                    ) : (
                      <Box component="span" c="dimmed" role="img" aria-label="no">
                        –
                      </Box>
                    )}
                  </Table.Td>
                ))}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Stack>
  );
}
