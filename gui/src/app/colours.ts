import type { CSSVariablesResolver } from "@mantine/core";

/** Quiet text that is still read: at least 4.5:1 on every ground that the pages have (WCAG 2.2, 1.4.3). */
export const colours: CSSVariablesResolver = () => ({
  variables: {},
  light: { "--mantine-color-dimmed": "#5c636a", "--mantine-color-placeholder": "#6a7178" },
  dark: { "--mantine-color-dimmed": "#a6a6a6", "--mantine-color-placeholder": "#9a9a9a" },
});
