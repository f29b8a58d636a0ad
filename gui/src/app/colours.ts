import type { CSSVariablesResolver } from "@mantine/core";

/**
 * Quiet text, errors and red buttons that are still read, at least 4.5:1 on every ground that the pages have; focus, lines and marks in the accent at
 * least 3:1 (WCAG 2.2, 1.4.3 and 1.4.11).
 */
export const colours: CSSVariablesResolver = () => ({
  variables: {
    "--mantine-color-red-filled": "#c92a2a",
    "--mantine-color-red-filled-hover": "#b02525",
  },
  light: {
    "--codezero-accent": "var(--mantine-color-sea-6)",
    "--mantine-color-dimmed": "#5c636a",
    "--mantine-color-placeholder": "#6a7178",
    "--mantine-color-error": "#c92a2a",
  },
  dark: {
    "--codezero-accent": "var(--mantine-color-sea-4)",
    "--mantine-color-dimmed": "#a6a6a6",
    "--mantine-color-placeholder": "#9a9a9a",
    "--mantine-color-error": "#ff8787",
    // A tint of the ground: what is marked stands out, and a notice is no wall.
    "--mantine-color-sea-light": "rgba(68, 166, 201, 0.18)",
    "--mantine-color-sea-light-hover": "rgba(68, 166, 201, 0.24)",
    "--mantine-color-sea-light-color": "#9fd3e6",
    "--mantine-color-red-light": "rgba(250, 82, 82, 0.18)",
    "--mantine-color-red-light-hover": "rgba(250, 82, 82, 0.24)",
    "--mantine-color-red-light-color": "#ffa8a8",
    "--mantine-color-yellow-light": "rgba(250, 176, 5, 0.16)",
    "--mantine-color-yellow-light-hover": "rgba(250, 176, 5, 0.22)",
    "--mantine-color-yellow-light-color": "#ffe066",
    "--mantine-color-teal-light": "rgba(18, 184, 134, 0.18)",
    "--mantine-color-teal-light-hover": "rgba(18, 184, 134, 0.24)",
    "--mantine-color-teal-light-color": "#63e6be",
  },
});
