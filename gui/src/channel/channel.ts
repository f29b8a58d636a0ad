import { useSyncExternalStore } from "react";

import { asProblem, Problem } from "../api/problem";
import { where } from "../api/where";
import { connectedMachines } from "./machines";
import { keptPairing, type Pairing } from "./pairing";
import { loopbackPermission, onPermissionChange } from "./permission";
import { CLOCK_WRONG, MACHINE_AWAY, PAGE_NOT_PAIRED } from "./problems";
import { askBy, type Way } from "./ways";

/**
 * Why a paired page does not ask directly: its browser would have to `prompt` somebody first, or was told not to (`denied`), or nobody answers at the
 * machine's port (`silent`).
 */
export type NotDirect = "prompt" | "denied" | "silent";

/**
 * How this page reaches the agent of the machine in front of it: as the page of its own `console`; as a page of the Hub that is paired with it, `direct`
 * or by the `relay`; or not at all.
 */
export type Channel =
  | { way: "looking" }
  | { way: "console" }
  | { way: "direct"; pairing: Pairing }
  | { way: "relay"; pairing: Pairing; notDirect: NotDirect }
  | { way: "none"; why: "insecure" | "unpaired" }
  /** Of somebody else who is signed in at the Hub in this browser; or the machine does not know it any more. */
  | { way: "none"; why: "other" | "ended"; pairing: Pairing }
  | { way: "none"; why: "away"; pairing: Pairing; notDirect: NotDirect; problem: Problem };

const PAIRINGS = "/paired/v1/pairings";
// Whether somebody answers at a port of one's own machine is known soon, and a page waits for it.
const PROBE_MS = 3_000;
const HUB_MS = 10_000;
// As long as people may take for the question of their browser.
const PROMPT_MS = 120_000;
// How often another way is looked for, and how often any.
const BETTER_MS = 60_000;
const ANY_MS = 5_000;

let now: Channel = { way: "looking" };
let user: string | undefined;
let looking: Promise<Channel> | undefined;
let next: Promise<Channel> | undefined;
let skips = false;
let lookedAt = 0;
// The machine has said that it does not know the pairing.
let isDoubted = false;
const listeners = new Set<() => void>();

function set(channel: Channel): Channel {
  if (!isSame(now, channel)) {
    now = channel;
    for (const listener of listeners) listener();
  }
  return now;
}

function isSame(one: Channel, other: Channel): boolean {
  const plain = (channel: Channel) =>
    JSON.stringify(channel, (name, value: unknown) => (name === "key" ? undefined : value));
  return plain(one) === plain(other);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** How this page reaches the agent. */
export function useChannel(): Channel {
  return useSyncExternalStore(subscribe, () => now);
}

/** The channel of now; where it is being looked for, when that is known. */
export async function channel(): Promise<Channel> {
  while (now.way === "looking") await (looking ?? new Promise<void>((done) => window.setTimeout(done, 50)));
  return now;
}

/** Keep a channel for whoever is signed in, until `signal`. */
export function keepChannel(me: string | undefined, signal: AbortSignal): void {
  if (where().served_by === "console") {
    set({ way: "console" });
    return;
  }
  // What another user's pairing leads to is nothing for this one, not even until that is looked at.
  if (user !== me) set({ way: "looking" });
  user = me;
  void look();
  const again = () => {
    // What works is not looked at: when it fails, that is noticed.
    if (!document.hidden && now.way !== "direct" && looking === undefined) void look();
  };
  const timer = window.setInterval(() => {
    if (now.way === "none" ? now.why === "away" : Date.now() - lookedAt > BETTER_MS) again();
  }, ANY_MS);
  window.addEventListener("focus", again, { signal });
  document.addEventListener("visibilitychange", again, { signal });
  window.addEventListener("online", again, { signal });
  // What another window of this browser pairs or forgets.
  const told = new BroadcastChannel("codezero-pairing");
  told.onmessage = () => void look();
  void onPermissionChange(() => void look()).catch(() => undefined);
  signal.addEventListener("abort", () => {
    window.clearInterval(timer);
    told.close();
  });
}

/** The pairing of this browser is another one, or none: all of its windows look anew. */
export async function pairingChanged(): Promise<Channel> {
  const tell = new BroadcastChannel("codezero-pairing");
  tell.postMessage("changed");
  tell.close();
  return await look();
}

/** Look which way there is now; by `skipped` not directly, where that has just failed. Brings up no question of the browser. */
export function look(skipped?: "direct"): Promise<Channel> {
  skips ||= skipped === "direct";
  // Who asks while somebody looks gets what is found after that; all of them the same.
  if (looking !== undefined) return (next ??= looking.then(lookNow));
  return lookNow();
}

function lookNow(): Promise<Channel> {
  const withoutDirect = skips;
  skips = false;
  next = undefined;
  lookedAt = Date.now();
  const whose = user;
  const mine = found(withoutDirect)
    // Somebody else may look at the page by now: for them it is looked anew.
    .then((channel) => (whose === user ? set(channel) : now))
    .finally(() => {
      looking = undefined;
    });
  looking = mine;
  return mine;
}

/** Ask directly, for somebody who has been told that their browser may ask about it. */
export async function askForDirect(): Promise<Channel> {
  const channel = await look();
  if (!("pairing" in channel) || channel.way === "direct") return channel;
  await probe("direct", channel.pairing, PROMPT_MS);
  return await look();
}

async function found(withoutDirect: boolean): Promise<Channel> {
  if (!("indexedDB" in globalThis) || !("subtle" in crypto)) return { way: "none", why: "insecure" };
  const pairing = await keptPairing().catch(() => null);
  if (pairing === null || user === undefined) return { way: "none", why: "unpaired" };
  if (pairing.user !== user) return { way: "none", why: "other", pairing };
  if (pairing.expiresAt * 1000 < Date.now()) return { way: "none", why: "ended", pairing };
  const permission = await loopbackPermission();
  const isFree = permission === "granted" || permission === "unknown";
  const direct = isFree && !withoutDirect ? await probe("direct", pairing, PROBE_MS) : "silent";
  if (direct === "answers") return { way: "direct", pairing };
  const notDirect: NotDirect = isFree ? "silent" : permission;
  const problem = await notThroughHub(pairing);
  if (problem === undefined) {
    // What has been asked already shows whether the machine knows this pairing.
    const isKnown = now.way === "relay" && now.pairing.id === pairing.id && !isDoubted;
    if (!isKnown && (await probe("relay", pairing, HUB_MS)) === "unpaired")
      return { way: "none", why: "ended", pairing };
    isDoubted = false;
    return { way: "relay", pairing, notDirect };
  }
  // At the port may be the machine of another user, which does not know this page.
  if (direct === "unpaired" && problem.code === MACHINE_AWAY) return { way: "none", why: "ended", pairing };
  // Who had a way by the Hub goes on trying it: each request says what is wrong.
  if (now.way === "relay" && now.pairing.id === pairing.id && problem.status === 0)
    return { way: "relay", pairing, notDirect };
  return { way: "none", why: "away", pairing, notDirect, problem };
}

/** The machine has said that it does not know this pairing: look whether that is so. */
export function doubt(): void {
  isDoubted = true;
  void look();
}

/** Whether the machine answers that way, and knows the pairing. */
async function probe(
  way: Way,
  pairing: Pairing,
  patience: number,
): Promise<"answers" | "silent" | "unpaired"> {
  const signal = AbortSignal.timeout(patience);
  try {
    const answer = await askBy(way, pairing, { method: "GET", target: PAIRINGS, body: "", signal });
    const told = (await answer.json()) as { machine?: unknown; code?: unknown };
    if (answer.ok) return told.machine === pairing.machine ? "answers" : "silent";
    if (told.code === PAGE_NOT_PAIRED) return "unpaired";
    return told.code === CLOCK_WRONG ? "answers" : "silent";
  } catch {
    return "silent";
  }
}

/** Why the Hub does not lead to the machine; undefined where it does. */
async function notThroughHub(pairing: Pairing): Promise<Problem | undefined> {
  try {
    const machines = await connectedMachines(AbortSignal.timeout(HUB_MS));
    if (machines.some(({ machine }) => machine === pairing.machine)) return undefined;
    return new Problem({
      status: 503,
      code: MACHINE_AWAY,
      title: "Machine not connected to the Hub",
      detail: `${pairing.name} keeps no connection to the Hub by which this page could reach it.`,
      fix: "Look there: czctl status. If this pairing was revoked, pair anew: czctl pair.",
    });
  } catch (error) {
    return asProblem(error);
  }
}
