import type { QueryClient, QueryKey } from "@tanstack/react-query";

import { agent } from "../api/agent";
import { hub, told } from "../api/hub";
import { Problem } from "../api/problem";
import type { Session } from "../session/session";
import { readingAnew } from "./reading";
import { tell } from "./state";

const SILENT_MS = 40_000;
const LONGEST_PAUSE_MS = 15_000;
const UNSEEN_MS = 5_000;

/** A message of the Hub's stream (`codezero.hub.api.events`). */
export interface HubMessage {
  type: "snapshot" | "changed" | "alive";
  kind?: string;
  organization?: string | null;
  space?: string | null;
  id?: string | null;
}

/**
 * Keys of queries begin with their source and what they show: `["hub", organization, kind, ...]` and `["agent", what, ...]`; what is of whoever looks has
 * `self` in the organization's place. A message of the Hub has read anew what shows what changed.
 */
const SHOWN_BY: Record<string, readonly string[]> = {
  apikey: ["apikeys", "service-accounts", "audit"],
  audit: ["audit"],
  device: ["devices", "audit"],
  invitation: ["invitations", "audit"],
  member: ["members", "service-accounts", "policy", "audit"],
  organization: ["organization", "audit"],
  policy: ["policy", "spaces", "audit"],
  space: ["spaces", "picture", "audit"],
  user: ["members"],
};
// Which of a Teamspace's pictures show what its message names; of another name: all of them.
const PICTURES: Record<string, readonly string[]> = {
  catalog: ["catalog", "laptops"],
  presence: ["presence", "laptops"],
  activity: ["activity"],
};

/** The keys of what shows what a message tells of; `self` is the id of whoever looks. */
export function keysOf(message: HubMessage, self: string | undefined): QueryKey[] {
  if (message.type === "snapshot") return [["hub"], ["session"]];
  if (message.type !== "changed") return [];
  const { kind = "", organization, space, id } = message;
  if (kind === "picture") {
    const told = PICTURES[id ?? ""];
    if (told !== undefined) return told.map((one) => ["hub", organization, "picture", space, one]);
    // The channel or the address of the Teamspace.
    return [
      ["hub", organization, "picture", space],
      ["hub", organization, "spaces"],
    ];
  }
  const isOfSelf = kind === "user" && id === self;
  return [
    ...(SHOWN_BY[kind] ?? []).map((one) => ["hub", organization, one]),
    ...(kind === "device" || isOfSelf
      ? [
          ["hub", "self", "devices"],
          ["hub", "self", "sessions"],
        ]
      : []),
    // Who one is, and what one's organizations are called.
    ...(kind === "organization" || isOfSelf ? [["session"]] : []),
  ];
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      window.clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = window.setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
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
  const readAnew = readingAnew(client, signal);
  void again(signal, async () => {
    let ticket: string;
    try {
      ({ ticket } = await told(hub.POST("/api/v1/events/tickets", { signal })));
    } catch (error) {
      tell("hub", "stale");
      // Whoever was here has signed out, or in anew: somewhere else, by the same browser or czctl.
      if (error instanceof Problem && [401, 403].includes(error.status)) readAnew(["session"]);
      throw error;
    }
    const heard = (message: HubMessage) => {
      const self = client.getQueryData<Session>(["session"])?.me?.user.id;
      for (const key of keysOf(message, self)) readAnew(key);
    };
    if (!signal.aborted) await listen(ticket, signal, heard);
  });
}

/** Until the stream ends, or is silent for too long. */
function listen(
  ticket: string,
  signal: AbortSignal,
  onMessage: (message: HubMessage) => void,
): Promise<void> {
  return new Promise((ended) => {
    const socket = new WebSocket(
      `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/events`,
    );
    let silent: number | undefined;
    const end = () => {
      window.clearTimeout(silent);
      signal.removeEventListener("abort", end);
      // A connection whose other end is gone takes its time to close.
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      tell("hub", "stale");
      ended();
    };
    const heard = () => {
      window.clearTimeout(silent);
      silent = window.setTimeout(end, SILENT_MS);
    };
    heard();
    signal.addEventListener("abort", end);
    socket.onopen = () => {
      socket.send(JSON.stringify({ ticket }));
    };
    socket.onmessage = (event: MessageEvent<string>) => {
      heard();
      tell("hub", "live");
      onMessage(JSON.parse(event.data) as HubMessage);
    };
    socket.onclose = end;
  });
}

/**
 * Listen to the agent until `signal`: what changes is read anew. Only while the page is looked at: its stream takes one of the six connections that a
 * browser has to one server, and further tabs would wait for theirs in vain.
 */
export function followAgent(client: QueryClient, signal: AbortSignal): void {
  const readAnew = readingAnew(client, signal);
  void again(signal, async () => {
    await seen(signal);
    if (signal.aborted) return;
    const looked = whileSeen(signal);
    try {
      const opened = () => {
        tell("agent", "live");
        readAnew(["agent"]);
      };
      for await (const event of agent.events(looked.signal, opened))
        readAnew(event.gap ? ["agent"] : ["agent", event.what]);
    } finally {
      looked.end();
      tell("agent", "stale");
      readAnew(["agent", "status"]);
    }
  });
}

/** Until somebody looks at the page, or `signal`. */
function seen(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });
}

/** A signal for as long as the page is looked at, within `signal`; a short look elsewhere does not count. */
function whileSeen(signal: AbortSignal): { signal: AbortSignal; end: () => void } {
  const controller = new AbortController();
  let timer: number | undefined;
  const stop = () => {
    controller.abort();
  };
  const changed = () => {
    window.clearTimeout(timer);
    timer = document.hidden ? window.setTimeout(stop, UNSEEN_MS) : undefined;
  };
  signal.addEventListener("abort", stop);
  document.addEventListener("visibilitychange", changed);
  return {
    signal: controller.signal,
    end: () => {
      window.clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      document.removeEventListener("visibilitychange", changed);
    },
  };
}
