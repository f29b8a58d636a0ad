import { Badge } from "@mantine/core";

/** A word that tells one line of a table from the others, such as "You". */
export function Mark({ children }: { children: string }) {
  return (
    <Badge variant="default" radius="sm" tt="none" fw={500} style={{ flexShrink: 0 }}>
      {children}
    </Badge>
  );
}
