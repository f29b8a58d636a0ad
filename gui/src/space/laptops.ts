import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import { agent } from "../api/agent";
import type {
  ConditionPart,
  PortPair,
  Presence,
  Service,
  ServiceRef,
  VariantView,
} from "../api/agent.generated";
import { everything, hub, told } from "../api/hub";
import { useSource, type Told } from "./source";
import { refOf } from "./services";

/** A variant that a laptop answers for. */
export interface Served {
  id: string;
  service: string;
  user: string;
  user_name: string;
  condition: ConditionPart[];
  ports: PortPair[];
  state: VariantView["state"];
  /** Seconds of UNIX time. */
  expires: number;
  mirror: string | null;
}

/** A laptop of the Teamspace: whose, and what it consumes and serves. `since` (seconds of UNIX time) is null where only its variants are known. */
export interface Laptop {
  session: string;
  user: string;
  userName: string;
  device: string;
  name: string;
  state: Presence["state"];
  since: number | null;
  consumes: string[];
  serves: Served[];
}

/** The variants of a service, as laptops serve them. */
export function servedOf(
  ref: ServiceRef,
  variants: readonly VariantView[],
): (Served & { session: string })[] {
  return variants.map((one) => ({
    id: one.variant_id,
    service: refOf(ref),
    user: one.user,
    user_name: one.user_name,
    condition: one.condition,
    ports: one.ports,
    state: one.state,
    expires: one.expires,
    mirror: one.mirror,
    session: one.session,
  }));
}

/** Laptops and variants, put together by session. Variants whose laptop nobody has seen for a while wait for it: that laptop is away. */
export function laptopsOf(
  connected: readonly Omit<Laptop, "serves">[],
  serves: readonly (Served & { session: string })[],
): Laptop[] {
  const bySession = new Map<string, Served[]>();
  for (const { session, ...served } of serves)
    bySession.set(session, [...(bySession.get(session) ?? []), served]);
  const laptops: Laptop[] = connected
    .filter((one) => one.state !== "gone")
    .map((one) => ({ ...one, serves: bySession.get(one.session) ?? [] }));
  const known = new Set(laptops.map((one) => one.session));
  for (const [session, left] of bySession) {
    const [first] = left;
    if (known.has(session) || first === undefined) continue;
    laptops.push({
      session,
      user: first.user,
      userName: first.user_name,
      device: "",
      name: "",
      state: "away",
      since: null,
      consumes: [],
      serves: left,
    });
  }
  const names = new Map(serves.map((one) => [one.user, one.user_name]));
  for (const laptop of laptops) if (laptop.userName === "") laptop.userName = names.get(laptop.user) ?? "";
  return laptops;
}

/** Presences, and the variants of a catalog, as laptops. */
export function laptopsIn(presences: readonly Presence[], services: readonly Service[]): Laptop[] {
  return laptopsOf(
    presences.map((one) => ({
      session: one.session,
      user: one.device.user,
      userName: one.user_name,
      device: one.device.device,
      name: one.name,
      state: one.state,
      since: one.since,
      consumes: one.consumes.map(refOf),
    })),
    services.flatMap((one) => (one.serving === null ? [] : servedOf(one.ref, one.serving.variants))),
  );
}

async function atHub(path: { organization: string; space: string }): Promise<Laptop[]> {
  const page = (cursor: string | undefined) => ({ path, query: { limit: 10_000, cursor: cursor ?? null } });
  const [sessions, serves] = await Promise.all([
    everything((cursor) =>
      told(hub.GET("/api/v1/organizations/{organization}/spaces/{space}/sessions", { params: page(cursor) })),
    ),
    everything((cursor) =>
      told(hub.GET("/api/v1/organizations/{organization}/spaces/{space}/serves", { params: page(cursor) })),
    ),
  ]);
  return laptopsOf(
    sessions.map((one) => ({
      session: one.id,
      user: one.user,
      userName: one.user_name,
      device: one.device,
      name: one.name,
      state: one.state as Presence["state"],
      since: one.since,
      consumes: one.consumes,
    })),
    // The document does not say what is in a condition or a pair of ports; the Teamspace's own words are passed on.
    serves.map((one) => ({
      ...one,
      condition: one.condition as unknown as ConditionPart[],
      ports: one.ports as unknown as PortPair[],
      state: one.state as VariantView["state"],
      mirror: one.mirror ?? null,
    })),
  );
}

/** What was asked for, as `Shown` takes it. */
export interface Asked<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
}

/** The laptops of the Teamspace, with what they consume and serve. */
export function useLaptops(): Asked<Told<Laptop>> {
  const source = useSource();
  const isHub = source.kind === "hub";
  const told = useQuery({
    queryKey: isHub ? ["hub", source.organization, "picture", source.space, "laptops"] : ["no-hub"],
    enabled: isHub,
    queryFn: async () => (isHub ? await atHub(source) : []),
  });
  // Two things of the agent, each of which changes by itself.
  const presence = useQuery({
    queryKey: ["agent", "presence", "all"],
    enabled: !isHub,
    queryFn: agent.presence,
  });
  const catalog = useQuery({
    queryKey: ["agent", "services", "all"],
    enabled: !isHub,
    queryFn: agent.services,
  });
  const data = useMemo((): Told<Laptop> | undefined => {
    if (isHub) return told.data === undefined ? undefined : { items: told.data, staleSince: null, at: null };
    if (presence.data === undefined || catalog.data === undefined) return undefined;
    return {
      items: laptopsIn(presence.data.presences, catalog.data.services),
      staleSince: catalog.data.stale_since,
      at: null,
    };
  }, [isHub, told.data, presence.data, catalog.data]);
  if (isHub) return { data, error: told.error, isPending: told.isPending, refetch: told.refetch };
  return {
    data,
    error: presence.error ?? catalog.error,
    isPending: presence.isPending || catalog.isPending,
    refetch: () => {
      void presence.refetch();
      void catalog.refetch();
    },
  };
}
