import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import { createContext, useContext, type ReactNode } from "react";

import { agent } from "../api/agent";
import type { Presence, Service } from "../api/agent.generated";
import { everything, hub, told } from "../api/hub";
import { ofAgent, ofHub, type Happened, type HubEvent } from "./happened";

/**
 * Where what is shown of a Teamspace comes from: the Hub, which shows what the Teamspace told it last, or the agent of this machine, which is connected
 * to it. The same pages show both.
 */
export type SpaceSource = { kind: "hub"; organization: string; space: string } | { kind: "agent" };

const TheSource = createContext<SpaceSource>({ kind: "agent" });

export function SpaceProvider({ source, children }: { source: SpaceSource; children: ReactNode }) {
  return <TheSource value={source}>{children}</TheSource>;
}

/** The Teamspace whose page this is. */
export function useSource(): SpaceSource {
  return useContext(TheSource);
}

/** Items, and since when they may be old (seconds of UNIX time; null: they are current), and when they were told. */
export interface Told<T> {
  items: T[];
  staleSince: number | null;
  at: number | null;
}

type PictureKind = "catalog" | "presence" | "activity";
// The most that the Hub gives at once: it reads all of a picture for each page.
const LIMIT = 10_000;

async function picture<T>(source: SpaceSource & { kind: "hub" }, kind: PictureKind): Promise<Told<T>> {
  const path = { organization: source.organization, space: source.space };
  let staleSince: number | null = null;
  let at: number | null = null;
  const items = await everything(async (cursor) => {
    const query = cursor === undefined ? { limit: LIMIT } : { limit: LIMIT, cursor };
    const page = await told(
      hub.GET(`/api/v1/organizations/{organization}/spaces/{space}/${kind}` as const, {
        params: { path, query },
      }),
    );
    staleSince = page.stale_since ?? null;
    at = page.at === null ? null : Date.parse(page.at) / 1000;
    return page;
  });
  return { items: items as T[], staleSince, at };
}

function keyOf(source: SpaceSource, kind: PictureKind): readonly unknown[] {
  if (source.kind === "hub") return ["hub", source.organization, "picture", source.space, kind];
  return ["agent", kind === "catalog" ? "services" : kind];
}

/** The services of the Teamspace, with their variants, by namespace and name. */
export function useCatalog(): UseQueryResult<Told<Service>> {
  const source = useSource();
  return useQuery({
    queryKey: keyOf(source, "catalog"),
    queryFn: async () => {
      if (source.kind === "hub") return await picture<Service>(source, "catalog");
      const view = await agent.services();
      return { items: view.services, staleSince: view.stale_since ?? null, at: null };
    },
  });
}

/** The laptops that are connected. */
export function usePresence(): UseQueryResult<Told<Presence>> {
  const source = useSource();
  return useQuery({
    queryKey: keyOf(source, "presence"),
    queryFn: async () => {
      if (source.kind === "hub") return await picture<Presence>(source, "presence");
      return { items: (await agent.presence()).presences, staleSince: null, at: null };
    },
  });
}

/** What happened last, oldest first. */
export function useActivity(): UseQueryResult<Told<Happened>> {
  const source = useSource();
  return useQuery({
    queryKey: keyOf(source, "activity"),
    queryFn: async () => {
      if (source.kind === "agent")
        return { items: ofAgent((await agent.activity()).activities), staleSince: null, at: null };
      const found = await picture<HubEvent>(source, "activity");
      return { ...found, items: found.items.map(ofHub) };
    },
  });
}
