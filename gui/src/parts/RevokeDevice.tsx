import { useQueryClient } from "@tanstack/react-query";

import { hub } from "../api/hub";
import type { Device } from "../api/hub.generated";
import { useSession } from "../session/session";
import { AskFirst, said } from "./index";

/** Revoke a device; `owner` is left out for one's own. */
export function RevokeDevice({ device, owner }: { device: Device; owner?: string }) {
  const client = useQueryClient();
  const { me } = useSession();
  const isThis = me?.device?.id === device.id;
  return (
    <AskFirst
      label="Revoke"
      size="xs"
      title={`Revoke ${device.name}?`}
      action={async () => {
        await hub.DELETE("/api/v1/devices/{device}", { params: { path: { device: device.id } } });
        await client.invalidateQueries({
          predicate: ({ queryKey }) => queryKey[0] === "hub" && queryKey[2] === "devices",
        });
        if (isThis) await client.invalidateQueries({ queryKey: ["session"] });
      }}
      onDone={() => {
        said(`The device ${device.name} is revoked`);
      }}
    >
      What <bdi>{device.name}</bdi> has open, consumes and serves ends within 5 seconds, in every Teamspace,
      and its key is never taken again.{" "}
      {owner === undefined ? (
        <>
          To use the machine again, sign in there anew: <code>czctl auth login --force</code>.
        </>
      ) : (
        <>
          To use the machine again, <bdi>{owner}</bdi> signs in there anew:{" "}
          <code>czctl auth login --force</code>.
        </>
      )}
      {isThis && " This is the machine that you are at: this page is signed out, too."}
    </AskFirst>
  );
}
