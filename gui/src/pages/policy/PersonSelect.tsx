import { Group, Select, Text } from "@mantine/core";
import { useMemo } from "react";

import { useMembers } from "../../parts/members";
import { ROLES } from "../../parts/roles";

/** A member to be asked about, found by name or address. */
export function PersonSelect({ value, onChange }: { value: string; onChange: (user: string) => void }) {
  const members = useMembers();
  const known = useMemo(() => new Map((members.data ?? []).map((one) => [one.user, one])), [members.data]);
  const data = useMemo(
    () =>
      (members.data ?? []).map((one) => ({
        value: one.user,
        label: one.email === null ? one.name : `${one.name} (${one.email})`,
      })),
    [members.data],
  );
  return (
    <Select
      label="As whom"
      w={360}
      searchable
      allowDeselect={false}
      limit={100}
      data={data}
      value={value}
      nothingFoundMessage="No member is called so"
      error={members.isError && members.data === undefined ? "The members could not be read" : undefined}
      onChange={(user) => {
        if (user !== null) onChange(user);
      }}
      renderOption={({ option }) => {
        const member = known.get(option.value);
        return (
          <Group justify="space-between" wrap="nowrap" w="100%" gap="sm">
            <Text size="sm" truncate>
              <bdi>{option.label}</bdi>
            </Text>
            {member !== undefined && (
              <Text size="xs" c="dimmed">
                {ROLES[member.role].title}
              </Text>
            )}
          </Group>
        );
      }}
    />
  );
}
