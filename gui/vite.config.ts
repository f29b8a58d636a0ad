import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Both the Hub and the local console serve it below /ui/, under a policy without inline programs.
export default defineConfig({
  base: "/ui/",
  plugins: [react()],
  build: {
    outDir: "../src/codezero/gui/built",
    emptyOutDir: true,
    target: "es2023",
    // light-dark() as it is: taken apart for older browsers it does not know of the theme's color-scheme.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    sourcemap: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
  },
});
