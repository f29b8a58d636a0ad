import { useSyncExternalStore } from "react";

import { problemOf, type Problem } from "../api/problem";
import { CONFIRM_ON_MACHINE, notConfirmed } from "./problems";
import type { Asked } from "./proof";

/** A request that waits until somebody confirms it on the machine. */
export interface Waiting {
  asked: Asked;
  problem: Problem;
  cancel: () => void;
}

const EVERY_MS = 2_000;

let waiting: readonly Waiting[] = [];
const listeners = new Set<() => void>();

function set(value: readonly Waiting[]): void {
  waiting = value;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The first of what waits to be confirmed. */
export function useWaiting(): Waiting | undefined {
  return useSyncExternalStore(subscribe, () => waiting[0]);
}

/** Ask again until the answer is another one: its content, or a refusal as `Problem`. */
export async function confirmed(
  asked: Asked,
  problem: Problem,
  again: () => Promise<Response>,
): Promise<Response> {
  const stop = new AbortController();
  const cancel = () => {
    stop.abort();
  };
  const entry: Waiting = { asked, problem, cancel };
  asked.signal?.addEventListener("abort", cancel);
  set([...waiting, entry]);
  try {
    for (;;) {
      await pause(stop.signal);
      asked.signal?.throwIfAborted();
      if (stop.signal.aborted) throw notConfirmed();
      const answer = await again();
      if (answer.ok) return answer;
      const other = await problemOf(answer);
      if (other.code !== CONFIRM_ON_MACHINE) throw other;
    }
  } finally {
    asked.signal?.removeEventListener("abort", cancel);
    set(waiting.filter((one) => one !== entry));
  }
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      window.clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = window.setTimeout(end, EVERY_MS);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}

// Dialogs close by Escape where they hear of it first, at the window. What waits is the topmost of them, and the one that is meant: this is heard before
// any dialog is there.
window.addEventListener(
  "keydown",
  (event) => {
    if (event.key !== "Escape" || event.isComposing || waiting[0] === undefined) return;
    event.stopImmediatePropagation();
    waiting[0].cancel();
  },
  { capture: true },
);
