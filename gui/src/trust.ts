/*
 * The page's policy takes no text as markup (`require-trusted-types-for 'script'`) but through the one policy of Trusted Types by the name `default`.
 * Mantine fills its `<style>` elements by innerHTML: its variables, widths of screens, and the change of the colour scheme. Style has no `<`, and text
 * without one is no markup, whatever element it is put into: so much is taken, and nothing else. Scripts and their addresses are refused as before.
 */

interface Policies {
  createPolicy: (name: "default", rules: { createHTML: (text: string) => string | null }) => unknown;
}

const policies = (globalThis as { trustedTypes?: Policies }).trustedTypes;

policies?.createPolicy("default", { createHTML: (text) => (text.includes("<") ? null : text) });

export {};
