import { problemOf } from "../api/problem";
import { send } from "../api/send";
import { where } from "../api/where";
import { channel, doubt, look } from "./channel";
import { confirmed } from "./confirming";
import {
  CONFIRM_ON_MACHINE,
  MACHINE_AWAY,
  maybeDone,
  noMachine,
  PAGE_NOT_PAIRED,
  RELAY_OFF,
  silent,
  unknownWhether,
} from "./problems";
import type { Asked } from "./proof";
import { askBy, HubAnswered, Unanswered } from "./ways";

/**
 * One request to the agent of the machine, or to what answers for it there, by whichever way there is. Throws `Problem` for a refusal. What has to be
 * confirmed on the machine is waited for.
 */
export async function askMachine(asked: Asked): Promise<Response> {
  if (where().served_by === "console") return await send(requestOf(asked));
  const answer = await askPaired(asked);
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (problem.code === PAGE_NOT_PAIRED) doubt();
  if (problem.code !== CONFIRM_ON_MACHINE) throw problem;
  return await confirmed(asked, problem, () => askPaired(asked));
}

function requestOf({ method, target, body, signal }: Asked): Request {
  return new Request(target, {
    method,
    ...(body === "" ? {} : { body, headers: { "Content-Type": "application/json" } }),
    signal: signal ?? null,
  });
}

/** The machine's answer. Where a way fails, another one is looked for; what only reads goes that way at once. */
async function askPaired(asked: Asked): Promise<Response> {
  const first = await channel();
  if (first.way !== "direct" && first.way !== "relay") {
    if (first.way === "none" && first.why === "away") throw first.problem;
    throw noMachine();
  }
  try {
    return await askBy(first.way, first.pairing, asked);
  } catch (error) {
    const hub = error instanceof HubAnswered ? error.problem : undefined;
    if (hub === undefined && !(error instanceof Unanswered)) throw error;
    const told = hub !== undefined && hub.status >= 500 && !isReading(asked) ? maybeDone(hub) : hub;
    if (hub !== undefined && hub.code !== MACHINE_AWAY && hub.code !== RELAY_OFF) throw told;
    const now = await channel();
    // Another request may have found out before.
    const next = now.way === first.way ? await look(first.way === "direct" ? "direct" : undefined) : now;
    const isOther = (next.way === "direct" || next.way === "relay") && next.way !== first.way;
    if (!isReading(asked)) throw told ?? unknownWhether();
    if (!isOther) throw told ?? silent(first.way, first.pairing.name);
    return await askBy(next.way, next.pairing, asked).catch((failed: unknown) => {
      if (failed instanceof HubAnswered) throw failed.problem;
      throw failed instanceof Unanswered ? silent(next.way, first.pairing.name) : failed;
    });
  }
}

// What changes nothing besides what is read by `GET`.
const READING = new Set(["POST /agent/v1/consume/test"]);

function isReading({ method, target }: Asked): boolean {
  return method === "GET" || READING.has(`${method} ${target}`);
}
