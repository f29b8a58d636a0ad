import type { QueryClient } from "@tanstack/react-query";

import { agent } from "../api/agent";
import { hub, told } from "../api/hub";
import { tell } from "./state";

// Of changes that come close together the first is shown at once and the others together.
const TOGETHER_MS = 400;
const SILENT_MS = 40_000;
const LONGEST_PAUSE_MS = 15_000;

interface HubMessage {
  type: "snapshot" | "changed" | "alive";
  kind?: string;
  organization?: string | null;
  space?: string | null;
  id?: string | null;
}

/**
 * Keys of queries begin with their source and what they show: `["hub", organization, kind, ...]` and `["agent", what, ...]`.
 * A message of the Hub invalidates the keys whose kind shows what changed.
 */
const SHOWN_BY: Record<string, readonly string[]> = {
  apikey: ["apikeys", "service-accounts", "audit"],
  audit: ["audit"],
  device: ["devices", "audit"],
  invitation: ["invitations", "audit"],
  member: ["members", "service-accounts", "audit"],
  organization: ["organization"],
  picture: ["picture"],
  policy: ["policy", "spaces"],
  space: ["spaces", "picture"],
  user: ["members"],
};

function invalidator(client: QueryClient): (key: readonly unknown[]) => void {
  const waiting = new Map<string, readonly unknown[]>();
  let timer: number | undefined;
  const flush = () => {
    timer = undefined;
    const keys = [...waiting.values()];
    waiting.clear();
    if (keys.length > 0) timer = window.setTimeout(flush, TOGETHER_MS);
    for (const queryKey of keys) void client.invalidateQueries({ queryKey });
  };
  return (key) => {
    waiting.set(JSON.stringify(key), key);
    timer ??= window.setTimeout(flush, 0);
  };
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = window.setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => {
      window.clearTimeout(timer);
      done();
    });
  });
}

async function again(signal: AbortSignal, once: () => Promise<void>): Promise<void> {
  for (let failed = 0; !signal.aborted;) {
    const begun = Date.now();
    try {
      await once();
    } catch {
      // Why, whoever reads the views is told; here only that it is not live.
    }
    failed = Date.now() - begun > LONGEST_PAUSE_MS ? 0 : failed + 1;
    await pause(Math.min(LONGEST_PAUSE_MS, 250 * 2 ** failed) * (0.5 + Math.random() / 2), signal);
  }
}

/** Listen to the Hub until `signal`: what changes is read anew. */
export function followHub(client: QueryClient, signal: AbortSignal): void {
  const invalidate = invalidator(client);
  void again(signal, async () => {
    const { ticket } = await told(hub.POST("/api/v1/events/tickets"));
    await new Promise<void>((ended) => {
      const socket = new WebSocket(
        `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/events`,
      );
      let silent: number | undefined;
      const heard = () => {
        window.clearTimeout(silent);
        silent = window.setTimeout(() => {
          socket.close();
        }, SILENT_MS);
      };
      heard();
      signal.addEventListener("abort", () => {
        socket.close();
      });
      socket.onopen = () => {
        socket.send(JSON.stringify({ ticket }));
      };
      socket.onmessage = (event: MessageEvent<string>) => {
        heard();
        const message = JSON.parse(event.data) as HubMessage;
        tell("hub", "live");
        if (message.type === "snapshot") invalidate(["hub"]);
        if (message.type === "changed")
          for (const kind of SHOWN_BY[message.kind ?? ""] ?? [])
            invalidate(["hub", message.organization, kind]);
        // The channel of a Teamspace has come or gone, which its state tells.
        if (message.kind === "picture" && message.id === "connection")
          invalidate(["hub", message.organization, "spaces"]);
      };
      socket.onclose = () => {
        window.clearTimeout(silent);
        tell("hub", "stale");
        ended();
      };
    });
  });
}

/** Listen to the agent until `signal`: what changes is read anew. */
export function followAgent(client: QueryClient, signal: AbortSignal): void {
  const invalidate = invalidator(client);
  void again(signal, async () => {
    try {
      const opened = () => {
        tell("agent", "live");
        invalidate(["agent"]);
      };
      for await (const event of agent.events(signal, opened))
        invalidate(event.gap ? ["agent"] : ["agent", event.what]);
    } finally {
      tell("agent", "stale");
      invalidate(["agent", "status"]);
    }
  });
}
