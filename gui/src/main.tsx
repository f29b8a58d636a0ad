import "./trust";

import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "@mantine/spotlight/styles.css";
import "./app/global.css";

import { MantineProvider, Center, Container } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { localConsole } from "./api/agent";
import { Problem } from "./api/problem";
import { learnWhere, where } from "./api/where";
import { colours } from "./app/colours";
import { router } from "./app/router";
import { takeOffer } from "./channel/offer";
import { ProblemAlert } from "./parts";
import { theme } from "./theme";

const client = new QueryClient({
  defaultOptions: {
    // What browsers call offline is a laptop without a network, which its own console does not need; and who asks is told why it cannot be done.
    mutations: { networkMode: "always" },
    queries: {
      networkMode: "always",
      staleTime: 30_000,
      // A refusal stays one; what cannot be reached is asked again.
      retry: (failures, error) =>
        !(error instanceof Problem && error.status >= 400 && error.status < 500) && failures < 2,
      refetchOnWindowFocus: false,
    },
  },
});

const nonce = document.querySelector<HTMLMetaElement>("meta[name=csp-nonce]")?.content ?? "";
// Where what keeps the page still behind a dialog (get-nonce of react-remove-scroll) looks for it.
Object.assign(globalThis, { __webpack_nonce__: nonce });
const element = document.getElementById("root");
if (element === null) throw new Error("no #root");
const root = createRoot(element);

/** The code of `czctl ui` is taken out of the address at once, and shown once. */
async function signInAtConsole(): Promise<void> {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (where().served_by !== "console" || code === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  await localConsole.signIn(code);
}

async function begin(): Promise<void> {
  let failed: unknown = null;
  takeOffer();
  try {
    await learnWhere();
    await signInAtConsole();
  } catch (error) {
    failed = error;
  }
  root.render(
    <StrictMode>
      <MantineProvider
        cssVariablesResolver={colours}
        theme={theme}
        defaultColorScheme="auto"
        getStyleNonce={() => nonce}
      >
        <Notifications position="bottom-right" />
        {failed === null ? (
          <QueryClientProvider client={client}>
            <RouterProvider router={router} />
          </QueryClientProvider>
        ) : (
          <Center mih="60dvh">
            <Container size="sm">
              <ProblemAlert
                error={failed}
                again={() => {
                  location.reload();
                }}
              />
            </Container>
          </Center>
        )}
      </MantineProvider>
    </StrictMode>,
  );
}

void begin();
