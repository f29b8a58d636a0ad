import { useSyncExternalStore } from "react";

import { Problem, problemOf } from "../api/problem";
import { CONFIRM_ON_MACHINE, notConfirmed, unknownWhether } from "./problems";
import type { Asked } from "./proof";

/** A request that waits until somebody confirms it on the machine: what the machine says of it, and what can be done here. */
export interface Waiting {
  problem: Problem;
  cancel: () => void;
  /** Why the machine was asked in vain the last time. */
  trouble?: Problem;
  /** Ask once more; only where nobody has answered in time. */
  askAgain?: () => void;
}

const EVERY_MS = 2_000;
// A question waits ten minutes on the machine. To ask after that would be another question, so this ends a little earlier.
const PATIENCE_MS = 590_000;
const TOO_MANY = 429;

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

/**
 * Ask again until the answer is another one: its content, or a refusal as `Problem`. Goes on where there was no answer; where nobody has confirmed it in
 * time, it waits for somebody here to ask once more.
 */
export async function confirmed(
  asked: Asked,
  problem: Problem,
  again: () => Promise<Response>,
): Promise<Response> {
  const stop = new AbortController();
  const cancel = () => {
    stop.abort();
  };
  let entry: Waiting = { problem, cancel };
  const show = (told: Waiting) => {
    set(waiting.map((one) => (one === entry ? told : one)));
    entry = told;
  };
  asked.signal?.addEventListener("abort", cancel);
  set([...waiting, entry]);
  try {
    for (let since = Date.now(); ;) {
      await pause(stop.signal);
      if (!stop.signal.aborted && Date.now() - since > PATIENCE_MS) {
        await goneOn(stop.signal, (askAgain) => {
          show({ problem: entry.problem, cancel, askAgain });
        });
        show({ problem: entry.problem, cancel });
        since = Date.now();
      }
      asked.signal?.throwIfAborted();
      if (stop.signal.aborted) throw notConfirmed();
      const answer = await answerOf(again);
      if (answer instanceof Response) return answer;
      if (answer.code !== CONFIRM_ON_MACHINE) {
        show({ ...entry, trouble: answer });
        continue;
      }
      // Another question: the one before was answered and done, where an answer got lost in between.
      if (entry.trouble !== undefined && answer.fix !== entry.problem.fix) throw unknownWhether();
      show({ problem: answer, cancel });
    }
  } finally {
    asked.signal?.removeEventListener("abort", cancel);
    set(waiting.filter((one) => one !== entry));
  }
}

/** The answer, if it is not to be waited for any more; that it still waits to be confirmed, or why there is no answer now. Throws a refusal. */
async function answerOf(again: () => Promise<Response>): Promise<Response | Problem> {
  const answer = await again().catch((error: unknown) => {
    // The machine itself has answers, and throws none.
    if (error instanceof Problem && (error.status === 0 || error.status === TOO_MANY || error.status >= 500))
      return error;
    throw error;
  });
  if (answer instanceof Problem || answer.ok) return answer;
  const problem = await problemOf(answer);
  if (problem.code === CONFIRM_ON_MACHINE || problem.status === TOO_MANY) return problem;
  throw problem;
}

function pause(signal: AbortSignal): Promise<void> {
  return goneOn(signal, (goOn) => window.setTimeout(goOn, EVERY_MS));
}

/** Until what `begin` was given is called, or `signal` comes. */
function goneOn(signal: AbortSignal, begin: (goOn: () => void) => void): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      signal.removeEventListener("abort", end);
      done();
    };
    signal.addEventListener("abort", end);
    begin(end);
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
