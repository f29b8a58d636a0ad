import { Alert, createTheme, Drawer, Modal, Notification, type MantineColorsTuple } from "@mantine/core";

// Dark enough from shade 6 on for text on white, light enough up to shade 4 for text on black (WCAG 2.2, 1.4.3).
const sea: MantineColorsTuple = [
  "#e7f6fb",
  "#cfe9f2",
  "#9fd3e6",
  "#6cbcd9",
  "#44a6c9",
  "#1f86ad",
  "#0d6a8d",
  "#0b5875",
  "#0a475f",
  "#08374a",
];

export const theme = createTheme({
  primaryColor: "sea",
  primaryShade: 6,
  colors: { sea },
  autoContrast: true,
  luminanceThreshold: 0.35,
  fontFamily:
    'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace',
  headings: {
    fontWeight: "600",
    sizes: { h1: { fontSize: "1.5rem" }, h2: { fontSize: "1.15rem" }, h3: { fontSize: "1rem" } },
  },
  defaultRadius: "md",
  cursorType: "pointer",
  focusRing: "auto",
  respectReducedMotion: true,
  components: {
    // Titles in the colour of the notice are too light on its ground.
    Alert: Alert.extend({ styles: { title: { color: "var(--mantine-color-bright)" } } }),
    // The head of a dialog is no banner of the page.
    Drawer: Drawer.extend({
      defaultProps: {
        closeButtonProps: { "aria-label": "Close" },
        attributes: { header: { role: "presentation" } },
      },
    }),
    Modal: Modal.extend({
      defaultProps: {
        closeButtonProps: { "aria-label": "Close" },
        attributes: { header: { role: "presentation" } },
      },
    }),
    Notification: Notification.extend({ defaultProps: { closeButtonProps: { "aria-label": "Close" } } }),
  },
});
