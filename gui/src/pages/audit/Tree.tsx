import { Box, Text } from "@mantine/core";

import classes from "./Tree.module.css";

/** Keys and values of any depth, as text. */
export function Tree({ value }: { value: unknown }) {
  if (Array.isArray(value)) {
    if (value.length === 0) return <None>none</None>;
    return (
      <ul className={classes.list}>
        {value.map((one: unknown, number) => (
          <li key={number}>
            <Tree value={one} />
          </li>
        ))}
      </ul>
    );
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return <None>nothing</None>;
    return (
      <dl className={classes.tree}>
        {entries.map(([name, one]: [string, unknown]) => (
          <Box key={name} className={isDeep(one) ? classes.deep : classes.pair}>
            <dt>
              <bdi>{name}</bdi>
            </dt>
            <dd>
              <Tree value={one} />
            </dd>
          </Box>
        ))}
      </dl>
    );
  }
  if (value === null || value === undefined || value === "") return <None>none</None>;
  if (typeof value === "boolean") return <Text size="sm">{value ? "yes" : "no"}</Text>;
  return (
    <Text size="sm" style={{ overflowWrap: "anywhere" }}>
      <bdi>{typeof value === "string" ? value : String(value as number)}</bdi>
    </Text>
  );
}

function isDeep(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

function None({ children }: { children: string }) {
  return (
    <Text size="sm" c="dimmed">
      {children}
    </Text>
  );
}
