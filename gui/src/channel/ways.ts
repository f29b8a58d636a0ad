import { problemOf, type Problem } from "../api/problem";
import { send } from "../api/send";
import type { Pairing } from "./pairing";
import { proofOf, type Asked, type Signer } from "./proof";

/** How a paired page reaches its machine. */
export type Way = "direct" | "relay";

// Of the Hub's answers: whose it is (`wire.paired.ANSWERED_BY`).
const ANSWERED_BY = "X-Codezero-Answered-By";

/** A request that nobody has answered. Whether it was done is not known. */
export class Unanswered extends Error {}

/** The Hub's own word in place of the machine's: it has not passed on the request, or nothing came back. */
export class HubAnswered extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

/** Ask the machine by that way: its answer, whatever it is. Throws `Unanswered` or `HubAnswered`. */
export function askBy(way: Way, signer: Signer & Pick<Pairing, "port">, asked: Asked): Promise<Response> {
  return way === "direct" ? directly(signer, asked) : throughHub(signer, asked);
}

async function directly(signer: Signer & Pick<Pairing, "port">, asked: Asked): Promise<Response> {
  const address = `http://127.0.0.1:${String(signer.port)}${asked.target}`;
  const headers = new Headers({ Authorization: `Codezero-Page ${await proofOf(signer, asked)}` });
  if (asked.body !== "") headers.set("Content-Type", "application/json");
  const options: RequestInit = {
    method: asked.method,
    headers,
    body: asked.body === "" ? null : asked.body,
    mode: "cors",
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    referrerPolicy: "no-referrer",
    signal: asked.signal ?? null,
  };
  return await answered(fetch(toLoopback(address, options)), asked.signal);
}

/** Says to browsers that know of it where the address is, so that they take it from a page of HTTPS. */
function toLoopback(address: string, options: RequestInit): Request {
  try {
    return new Request(address, { ...options, targetAddressSpace: "loopback" } as RequestInit);
  } catch {
    return new Request(address, options);
  }
}

async function throughHub(signer: Signer, asked: Asked): Promise<Response> {
  const { method, target, body } = asked;
  const request = new Request(`/api/v1/machines/${signer.machine}/ask`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ method, target, body, proof: await proofOf(signer, asked) }),
    signal: asked.signal ?? null,
  });
  const answer = await answered(send(request, "any"), asked.signal);
  if (answer.headers.get(ANSWERED_BY) !== "machine") throw new HubAnswered(await problemOf(answer));
  return answer;
}

async function answered(answer: Promise<Response>, signal: AbortSignal | undefined): Promise<Response> {
  try {
    return await answer;
  } catch (error) {
    if (signal?.aborted === true) throw error;
    throw new Unanswered(String(error));
  }
}
