import { useSyncExternalStore } from "react";

/** What `czctl pair` has put into the address: its machine, where that answers directly, and the one-time code. */
export interface Offer {
  machine: string;
  port: number;
  code: string;
}

const PATH = "/ui/pair";
const KEPT = "codezero-pairing-offer";
const MACHINE = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const CODE = /^[A-Za-z0-9_-]{16,200}$/;
// `czctl pair` does not wait for longer.
const GOOD_MS = 5 * 60_000;

let offer: Offer | null = null;
const listeners = new Set<() => void>();

function set(value: Offer | null): void {
  offer = value;
  for (const listener of listeners) listener();
}

/** Take the offer out of the address, where the code is for no longer than it has to be. Before anything else is done. */
export function takeOffer(): void {
  const kept = keptOffer();
  if (location.pathname !== PATH) return;
  if (location.hash.length > 1) {
    const told = read(new URLSearchParams(location.hash.slice(1)));
    history.replaceState(history.state, "", location.pathname + location.search);
    if (told !== null) set(told);
  } else if (kept !== null) {
    const { until, ...told } = JSON.parse(kept) as Offer & { until: number };
    if (Date.now() < until) set(told);
  }
}

/** Keep the offer while this window is at the sign-in page: the memory of this page is gone then. It is taken away again as soon as it is back. */
export function keepOffer(): void {
  if (offer === null) return;
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ ...offer, until: Date.now() + GOOD_MS }));
  } catch {
    // Such a browser keeps no key, either.
  }
}

function keptOffer(): string | null {
  try {
    const kept = sessionStorage.getItem(KEPT);
    sessionStorage.removeItem(KEPT);
    return kept;
  } catch {
    // Of a browser that keeps nothing for pages.
    return null;
  }
}

/** It is used, or no good. */
export function dropOffer(): void {
  set(null);
}

function read(told: URLSearchParams): Offer | null {
  const [machine = "", port, code = ""] = ["machine", "port", "code"].map((name) => told.get(name) ?? "");
  const number = Number(port);
  const isGood = MACHINE.test(machine) && CODE.test(code) && Number.isInteger(number) && number > 0;
  return isGood && number < 65_536 ? { machine, port: number, code } : null;
}

function subscribe(listener: () => void): () => void {
  // Whoever opens another address of `czctl pair` in this window loads nothing anew.
  window.addEventListener("hashchange", takeOffer);
  listeners.add(listener);
  return () => {
    window.removeEventListener("hashchange", takeOffer);
    listeners.delete(listener);
  };
}

/** What `czctl pair` offers to this window. */
export function useOffer(): Offer | null {
  return useSyncExternalStore(subscribe, () => offer);
}
