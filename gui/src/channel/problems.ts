import { Problem } from "../api/problem";
import type { Way } from "./ways";

// Of `codezero.model.problems`.
export const PAGE_NOT_PAIRED = "CZ-PAIR-001";
export const PAIRING_CLOSED = "CZ-PAIR-003";
export const CONFIRM_ON_MACHINE = "CZ-PAIR-004";
export const MACHINE_AWAY = "CZ-PAIR-005";
export const RELAY_OFF = "CZ-PAIR-006";
export const CLOCK_WRONG = "CZ-HUB-016";

/** This page has no machine to ask. */
export function noMachine(): Problem {
  return new Problem({
    status: 503,
    code: "CZ-GUI-004",
    title: "No way to a machine",
    detail: "This page is not paired with the agent of a machine.",
    fix: "Pair this browser: czctl pair, on the machine that has the agent.",
  });
}

/** Something that changes something was asked for, and no answer came. */
export function unknownWhether(): Problem {
  return new Problem({
    status: 0,
    code: "CZ-GUI-005",
    title: "No answer",
    detail: "No answer came from the machine: it is not known whether this was done.",
    fix: "Look whether it was, and else do it again. The page has looked for another way meanwhile.",
  });
}

/** The same, where the Hub has said that it got no whole answer of the machine. */
export function maybeDone(told: Problem): Problem {
  return new Problem({
    status: told.status,
    code: told.code,
    title: told.title,
    detail: `${told.detail.replace(/\.$/, "")}. It is not known whether this was done.`,
    fix: "Look whether it was, and else do it again.",
  });
}

/** Nobody answers: the machine directly, or the Hub in its place. */
export function silent(way: Way, name: string): Problem {
  const isHub = way === "relay";
  return new Problem({
    status: 0,
    code: "CZ-GUI-001",
    title: isHub ? "Hub not reachable" : "Machine not reachable",
    detail: isHub ? `The Hub does not answer, by which ${name} is asked.` : `${name} does not answer.`,
    fix: isHub
      ? "It is asked again by itself; look whether your network is there."
      : "It is asked again by itself. On that machine, czctl status says how its agent is.",
  });
}

/** Nobody waits for what was to be confirmed on the machine. */
export function notConfirmed(): Problem {
  return new Problem({
    status: 0,
    code: "CZ-GUI-006",
    title: "Not done",
    detail: "It was not confirmed on the machine before you cancelled.",
    fix: "Do it again, and confirm it there: czctl confirm.",
  });
}
