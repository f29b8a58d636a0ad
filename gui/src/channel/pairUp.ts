import { agent } from "../api/agent";
import { Problem, problemOf } from "../api/problem";
import { channel, pairingChanged } from "./channel";
import type { Offer } from "./offer";
import { deletePairing, keepPairing, type Pairing } from "./pairing";
import { loopbackPermission } from "./permission";
import { MACHINE_AWAY, PAGE_NOT_PAIRED, silent } from "./problems";
import { macOf, newKey, type Asked, type Signer } from "./proof";
import { askBy, HubAnswered, Unanswered, type Way } from "./ways";

/** Somebody wants to pair this browser: what they have, and what is to be told meanwhile. */
export interface Wish {
  offer: Offer;
  /** Who is signed in at the Hub. */
  user: string;
  /** What this browser calls itself. */
  name: string;
  /** By which way it is being asked now. */
  onWay: (way: Way) => void;
  /** Ends the asking by the direct way, in which a browser may have asked a question that nobody answers. */
  notDirect: AbortSignal;
}

/** Pair this browser with the machine of the offer, in place of the machine before. Brings up the browser's own question where it has one. */
export async function pairUp({ offer, user, name, onWay, notDirect }: Wish): Promise<Pairing> {
  const { key, shown, id } = await newKey();
  const signer = { key, id, machine: offer.machine, port: offer.port };
  const wanted = { key: shown, name, mac: await macOf(offer.code, signer) };
  let way: Way = "direct";
  const onItsWay = (now: Way) => {
    way = now;
    onWay(now);
  };
  const made = await agent.pair(wanted, (asked) =>
    byEitherWay(signer, { ...asked, onWay: onItsWay, notDirect }),
  );
  const pairing: Pairing = {
    key,
    id,
    machine: made.machine,
    name: made.name,
    port: made.port,
    user,
    acts: made.pairing.acts,
    expiresAt: made.pairing.expires_at,
  };
  const before = await channel();
  await keepPairing(pairing).catch((error: unknown) => {
    // The key goes with this page, so that nobody can use what was paired.
    void revokeAt(pairing, way).catch(() => undefined);
    throw error;
  });
  if ("pairing" in before) void revokeAt(before.pairing, before.way).catch(() => undefined);
  await pairingChanged();
  return pairing;
}

/** Delete the key of the pairing here, and revoke it at the machine. Whether the machine has answered: it is forgotten here all the same. */
export async function forget(pairing: Pairing): Promise<boolean> {
  const { way } = await channel();
  // First, so that no window of this browser asks by what is about to end.
  await forgetHere(pairing);
  return await revokeAt(pairing, way).catch(() => false);
}

/** Delete the key of a pairing that the machine does not know any more. */
export async function forgetHere(pairing: Pairing): Promise<void> {
  await deletePairing(pairing.id);
  await pairingChanged();
}

const REVOKE_MS = 5_000;

async function revokeAt(pairing: Pairing, way: string): Promise<boolean> {
  if (way !== "direct" && way !== "relay") return false;
  const answer = await askBy(way, pairing, {
    method: "POST",
    target: "/paired/v1/pairings/revoke",
    body: JSON.stringify({ id: pairing.id }),
    signal: AbortSignal.timeout(REVOKE_MS),
  });
  return answer.ok;
}

/** Directly where the browser lets us, or asks; else through the Hub. */
async function byEitherWay(
  signer: Signer & Pick<Pairing, "port">,
  asked: Asked & Pick<Wish, "onWay" | "notDirect">,
): Promise<Response> {
  const { onWay, notDirect } = asked;
  if ((await loopbackPermission()) !== "denied" && !notDirect.aborted) {
    onWay("direct");
    const answer = await askBy("direct", signer, { ...asked, signal: notDirect }).catch((error: unknown) => {
      if (error instanceof Unanswered || notDirect.aborted) return undefined;
      throw error;
    });
    if (answer?.ok === true) return answer;
    const problem = answer && (await problemOf(answer));
    // At that port of this machine may be somebody else's.
    if (problem !== undefined && problem.code !== PAGE_NOT_PAIRED) throw problem;
  }
  onWay("relay");
  try {
    const answer = await askBy("relay", signer, asked);
    if (answer.ok) return answer;
    throw await problemOf(answer);
  } catch (error) {
    if (error instanceof HubAnswered)
      throw error.problem.code === MACHINE_AWAY ? neither(signer.port) : error.problem;
    throw error instanceof Unanswered ? silent("relay", "the machine") : error;
  }
}

function neither(port: number): Problem {
  return new Problem({
    status: 503,
    code: MACHINE_AWAY,
    title: "The machine is not reached",
    detail: `This browser reaches nobody at 127.0.0.1:${String(port)}, and the machine is not connected to the Hub.`,
    fix: "See that czctl pair still waits in its terminal, and try again; or type it anew.",
  });
}
