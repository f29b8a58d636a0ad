import { Box, Group, Paper, Stack, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";

/** A part of a page with a title of its own: what it is about, and what can be done there. */
export function Section({
  title,
  about,
  action,
  tone,
  children,
}: {
  title: string;
  about?: ReactNode;
  action?: ReactNode;
  /** `danger` marks what cannot be taken back. */
  tone?: "danger";
  children?: ReactNode;
}) {
  return (
    <Paper
      component="section"
      withBorder
      p="lg"
      aria-label={title}
      {...(tone === "danger" ? { style: { borderColor: "var(--mantine-color-red-outline)" } } : {})}
    >
      <Stack gap="md">
        <Group justify="space-between" align="flex-start" gap="md" wrap="nowrap">
          <Box miw={0}>
            <Title order={2}>{title}</Title>
            {about !== undefined && (
              <Text size="sm" c="dimmed" mt={4} maw={640} component="div">
                {about}
              </Text>
            )}
          </Box>
          {action !== undefined && <Box style={{ flexShrink: 0 }}>{action}</Box>}
        </Group>
        {children}
      </Stack>
    </Paper>
  );
}
