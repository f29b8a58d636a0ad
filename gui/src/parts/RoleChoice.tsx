import { Radio, Stack, Text } from "@mantine/core";

import type { Role } from "../api/hub.generated";
import { ROLES } from "./roles";

/** One of some roles, with what each means. */
export function RoleChoice({
  label,
  roles,
  ...input
}: {
  label: string;
  roles: readonly Role[];
  value?: string;
  onChange?: (value: string) => void;
}) {
  return (
    <Radio.Group label={label} {...input}>
      <Stack gap="sm" mt="xs">
        {roles.map((role) => (
          <Radio
            key={role}
            value={role}
            label={ROLES[role].title}
            description={
              <Text size="xs" component="span">
                {ROLES[role].about}
              </Text>
            }
          />
        ))}
      </Stack>
    </Radio.Group>
  );
}
