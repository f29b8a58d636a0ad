/** What is asked of a machine: the target as in our own client, query included, and the body as it is sent. */
export interface Asked {
  method: "GET" | "POST" | "PUT" | "DELETE";
  target: string;
  body: string;
  signal: AbortSignal | undefined;
}

/** Who signs, for which machine: `id` is the thumbprint of the key. */
export interface Signer {
  key: CryptoKey;
  id: string;
  machine: string;
}

const CURVE = { name: "ECDSA", namedCurve: "P-256" } as const;
const TEXT = new TextEncoder();

/** A new key of this page, its public half, and its thumbprint (RFC 7638). */
export async function newKey(): Promise<{ key: CryptoKey; shown: PublicKey; id: string }> {
  const pair = await crypto.subtle.generateKey(CURVE, false, ["sign", "verify"]);
  const { x = "", y = "" } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  // RFC 7638: these members alone, in this order, without white space.
  const thumbprint = await digest(JSON.stringify({ crv: "P-256", kty: "EC", x, y }));
  return { key: pair.privateKey, shown: { kty: "EC", crv: "P-256", x, y }, id: thumbprint };
}

export interface PublicKey {
  kty: string;
  crv: string;
  x: string;
  y: string;
}

/** What shows that this page has the one-time code of `czctl pair` (`wire.paired.mac_of`). */
export async function macOf(code: string, { machine, id }: { machine: string; id: string }): Promise<string> {
  const key = await crypto.subtle.importKey(
    "raw",
    TEXT.encode(code),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const text = `codezero pairing\n${location.origin}\n${machine}\n${id}`;
  return encoded(await crypto.subtle.sign("HMAC", key, TEXT.encode(text)));
}

/** What shows a machine that its paired page asks for just this, once: a compact JWS (`wire.paired`). */
export async function proofOf({ key, id, machine }: Signer, asked: Asked): Promise<string> {
  const header = { typ: "codezero-page-proof+jwt", alg: "ES256", kid: id };
  const claims = {
    aud: machine,
    htm: asked.method,
    htu: asked.target,
    bsh: await digest(asked.body),
    iat: Math.floor(Date.now() / 1000),
    jti: encoded(crypto.getRandomValues(new Uint8Array(16)).buffer),
  };
  const signed = [header, claims].map((part) => encoded(TEXT.encode(JSON.stringify(part)).buffer)).join(".");
  const by = { name: "ECDSA", hash: "SHA-256" };
  return `${signed}.${encoded(await crypto.subtle.sign(by, key, TEXT.encode(signed)))}`;
}

async function digest(text: string): Promise<string> {
  return encoded(await crypto.subtle.digest("SHA-256", TEXT.encode(text)));
}

function encoded(content: ArrayBuffer): string {
  const text = String.fromCharCode(...new Uint8Array(content));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
