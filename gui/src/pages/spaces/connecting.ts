import type { DoorToken } from "../../api/hub.generated";

/** The name that a Teamspace's certificate is for, and that clients therefore have to ask for. */
export function serverNameOf(space: string): string {
  return `${space.toLowerCase()}.spaces.codezero.io`;
}

/** What reaches a service through the CONNECT door, with curl: the token comes from czctl, and stands on no command line. */
export function curlThrough(
  door: Pick<DoorToken, "host" | "port">,
  space: { id: string; name: string },
): string {
  const place = `${serverNameOf(space.id)}:${String(door.port)}`;
  const isAddress = /^[0-9.]+$/.test(door.host) || door.host.includes(":");
  // Only addresses can be given to --resolve.
  const address = isAddress
    ? door.host.includes(":")
      ? `[${door.host}]`
      : door.host
    : `$(getent ahosts ${door.host} | awk 'NR == 1 { print $1 }')`;
  return [
    `czctl space token ${space.name} | sed 's/^/Proxy-Authorization: Bearer /' |`,
    `curl --proxytunnel --proxy https://${place} \\`,
    `  --resolve "${place}:${address}" \\`,
    "  --proxy-cacert root.pem --proxy-header @- http://SERVICE.NAMESPACE:PORT/",
  ].join("\n");
}

/** What a job sets for the Node.js agent, besides its key. */
export function nodeEnvironment(hubUrl: string, organization: string, space: string): string {
  return [`CZ_HUB_SERVER_BASE_URL=${hubUrl}`, `CZ_ORG_ID=${organization}`, `CZ_SPACE_ID=${space}`].join("\n");
}

export const NODE_PROGRAM = [
  'import { CodezeroAgent } from "@c6o/codezero-agent";',
  'import fetch from "node-fetch";',
  "",
  "const agent = new CodezeroAgent();",
  'const answer = await fetch("http://SERVICE.NAMESPACE:PORT/", { agent });',
].join("\n");
