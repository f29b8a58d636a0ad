import { Box, Stack, Text } from "@mantine/core";

import type { Service, VariantView } from "../../api/agent.generated";
import { Command } from "../../parts";
import { curlTo, headersOf } from "../../space/conditions";

/** What to send so that this variant answers. */
export function HowToAsk({
  service,
  variant,
  curl,
}: {
  service: Service;
  variant: VariantView;
  curl: string | undefined;
}) {
  const command = curl ?? curlTo(service, variant);
  const lines = headersOf(variant.condition, variant.user);
  return (
    <Stack gap="xs">
      {lines.length > 0 && (
        <Box>
          <Text size="sm" mb={4}>
            Send {lines.length === 1 ? "this header" : "these headers"}:
          </Text>
          <Stack gap={4}>
            {lines.map((line) => (
              <Command key={line} label="Copy the header">
                {line}
              </Command>
            ))}
          </Stack>
        </Box>
      )}
      {command !== undefined && (
        <Box>
          <Text size="sm" mb={4}>
            Try it:
          </Text>
          <Command>{command}</Command>
        </Box>
      )}
    </Stack>
  );
}
