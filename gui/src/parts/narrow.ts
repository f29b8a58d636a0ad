import { useMediaQuery } from "@mantine/hooks";

/** Whether there is room for the most important columns alone. */
export function useNarrow(): boolean {
  return useMediaQuery("(max-width: 48em)", false, { getInitialValueInEffect: false });
}
