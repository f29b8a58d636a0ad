import type { Service } from "../../api/agent.generated";
import { servedOf, type Laptop, type Served } from "../../space/laptops";
import { refOf } from "../../space/services";

/** More is not laid out: nobody could read it. */
export const MOST_NODES = 300;
// A laptop that consumes more of one namespace gets one line to all of it.
const MOST_LINES = 12;

export interface LaptopNode {
  kind: "laptop";
  id: string;
  laptop: Laptop;
  name: string;
}

export interface ServiceNode {
  kind: "service";
  id: string;
  service: Service;
  ref: string;
  consumers: number;
  problem: Problem | undefined;
}

export interface VariantNode {
  kind: "variant";
  id: string;
  served: Served;
  session: string;
}

export type Node = LaptopNode | ServiceNode | VariantNode;

/** `laptop` consumes a service or, with `count`, so many services of the namespace; a service is answered by a variant, and that by its laptop. */
export interface Edge {
  kind: "consumes" | "serves";
  id: string;
  from: string;
  to: string;
  isAway: boolean;
  count?: number;
}

/** What is wrong with a service, a variant or a laptop, in words. */
export interface Problem {
  tone: "bad" | "busy";
  words: string;
}

/** Something that needs attention, and the node that shows why. */
export interface Attention extends Problem {
  node: string;
  name: string;
}

export interface Picture {
  nodes: Node[];
  edges: Edge[];
  attention: Attention[];
  /** Services that fit the filter and are not shown, for there would be too many nodes. */
  leftOut: number;
}

export interface GraphFilter {
  text: string;
  namespace: string;
  /** Also services that nobody consumes or serves and that are well. */
  all: boolean;
}

export const laptopId = (session: string) => `laptop:${session}`;
export const serviceId = (ref: string) => `service:${ref}`;
export const variantId = (id: string) => `variant:${id}`;
export const namespaceId = (namespace: string) => `namespace:${namespace}`;

/** What is wrong with a service. */
export function problemOf(service: Service): Problem | undefined {
  const { serving } = service;
  if (serving?.state === "refused")
    return { tone: "bad", words: `cannot be served${serving.detail === "" ? "" : `: ${serving.detail}`}` };
  if (serving?.state === "contested")
    return {
      tone: "bad",
      words: `is contested${serving.detail === "" ? ": somebody else keeps changing it" : `: ${serving.detail}`}`,
    };
  if (service.ready === 0)
    return {
      tone: "bad",
      words:
        service.total === 0 ? "has no endpoints" : `has no ready endpoint (0 of ${String(service.total)})`,
    };
  return undefined;
}

interface Candidate {
  service: Service;
  ref: string;
  consumers: Laptop[];
  variants: (Served & { session: string })[];
  problem: Problem | undefined;
}

// What matters most comes first, and is there where not all is.
function rank(one: Candidate): number {
  const isUsed = one.consumers.length > 0 || one.variants.length > 0;
  if (one.problem !== undefined) return isUsed ? 0 : 3;
  if (one.variants.length > 0) return 1;
  return one.consumers.length > 0 ? 2 : 4;
}

function candidatesOf(services: readonly Service[], laptops: readonly Laptop[]): Candidate[] {
  const consumers = new Map<string, Laptop[]>();
  for (const laptop of laptops)
    for (const ref of laptop.consumes) {
      const found = consumers.get(ref);
      if (found === undefined) consumers.set(ref, [laptop]);
      else found.push(laptop);
    }
  return services.map((service) => {
    const ref = refOf(service.ref);
    return {
      service,
      ref,
      consumers: consumers.get(ref) ?? [],
      variants: service.serving === null ? [] : servedOf(service.ref, service.serving.variants),
      problem: problemOf(service),
    };
  });
}

/** What is to be seen of a Teamspace: what is used or unhealthy, or all, as far as it can be read at once. */
export function pictureOf(
  services: readonly Service[],
  laptops: readonly Laptop[],
  filter: GraphFilter,
  nameOf: (laptop: Laptop) => string,
): Picture {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const bySession = new Map(laptops.map((one) => [one.session, one]));
  const nameIn = (session: string) => {
    const laptop = bySession.get(session);
    return laptop === undefined ? "" : `${nameOf(laptop)} ${laptop.name}`;
  };
  const fits = (one: Candidate) => {
    if (filter.namespace !== "" && one.service.ref.namespace !== filter.namespace) return false;
    if (!filter.all && rank(one) === 4) return false;
    if (words.length === 0) return true;
    const content = [
      one.ref,
      ...one.consumers.map((laptop) => nameIn(laptop.session)),
      ...one.variants.map((variant) => nameIn(variant.session)),
    ]
      .join(" ")
      .toLowerCase();
    return words.every((word) => content.includes(word));
  };
  const wanted = candidatesOf(services, laptops)
    .filter(fits)
    .sort((a, b) => rank(a) - rank(b) || (a.ref < b.ref ? -1 : 1));

  const shown: Candidate[] = [];
  const connected = new Set<string>();
  let count = 0;
  for (const one of wanted) {
    const sessions = [...one.consumers, ...one.variants]
      .map(({ session }) => session)
      .filter((session) => bySession.has(session) && !connected.has(session));
    const more = 1 + one.variants.length + new Set(sessions).size;
    if (count + more > MOST_NODES) break;
    count += more;
    shown.push(one);
    for (const session of sessions) connected.add(session);
  }
  // Who is there and neither consumes nor serves is there all the same.
  for (const laptop of laptops) {
    const fitsText = words.every((word) => nameIn(laptop.session).toLowerCase().includes(word));
    if (filter.namespace === "" && fitsText && count < MOST_NODES && !connected.has(laptop.session)) {
      connected.add(laptop.session);
      count += 1;
    }
  }
  const there = laptops.filter((one) => connected.has(one.session));
  return {
    nodes: [
      ...there.map((laptop) => ({
        kind: "laptop" as const,
        id: laptopId(laptop.session),
        laptop,
        name: nameOf(laptop),
      })),
      ...shown.flatMap((one) =>
        one.variants.map(({ session, ...served }) => ({
          kind: "variant" as const,
          id: variantId(served.id),
          served,
          session,
        })),
      ),
      ...shown.map((one) => ({
        kind: "service" as const,
        id: serviceId(one.ref),
        service: one.service,
        ref: one.ref,
        consumers: one.consumers.length,
        problem: one.problem,
      })),
    ],
    edges: [...consumesOf(shown, there), ...servesOf(shown, connected)],
    attention: attentionOf(shown, there, nameOf),
    leftOut: wanted.length - shown.length,
  };
}

function consumesOf(shown: readonly Candidate[], laptops: readonly Laptop[]): Edge[] {
  const namespaceOf = new Map(shown.map((one) => [one.ref, one.service.ref.namespace]));
  return laptops.flatMap((laptop) => {
    const isAway = laptop.state === "away";
    const byNamespace = new Map<string, string[]>();
    for (const ref of laptop.consumes) {
      const namespace = namespaceOf.get(ref);
      if (namespace !== undefined) byNamespace.set(namespace, [...(byNamespace.get(namespace) ?? []), ref]);
    }
    const from = laptopId(laptop.session);
    return [...byNamespace].flatMap(([namespace, refs]): Edge[] => {
      if (refs.length > MOST_LINES) {
        const to = namespaceId(namespace);
        return [{ kind: "consumes", id: `${from} ${to}`, from, to, isAway, count: refs.length }];
      }
      return refs.map((ref) => ({
        kind: "consumes",
        id: `${from} ${serviceId(ref)}`,
        from,
        to: serviceId(ref),
        isAway,
      }));
    });
  });
}

function servesOf(shown: readonly Candidate[], sessions: ReadonlySet<string>): Edge[] {
  return shown.flatMap((one) =>
    one.variants.flatMap((variant): Edge[] => {
      const node = variantId(variant.id);
      const isAway = variant.state === "away";
      const from = serviceId(one.ref);
      const first: Edge = { kind: "serves", id: `${from} ${node}`, from, to: node, isAway };
      if (!sessions.has(variant.session)) return [first];
      const to = laptopId(variant.session);
      return [first, { kind: "serves", id: `${node} ${to}`, from: node, to, isAway }];
    }),
  );
}

function attentionOf(
  shown: readonly Candidate[],
  laptops: readonly Laptop[],
  nameOf: (laptop: Laptop) => string,
): Attention[] {
  const found: Attention[] = shown.flatMap((one) => {
    if (one.problem === undefined) return [];
    const who = one.consumers.length;
    const affected =
      who === 0 ? "" : `; ${who === 1 ? "1 laptop consumes" : `${String(who)} laptops consume`} it`;
    return [
      {
        tone: one.problem.tone,
        words: one.problem.words + affected,
        node: serviceId(one.ref),
        name: one.ref,
      },
    ];
  });
  for (const laptop of laptops)
    if (laptop.state === "away") {
      const serves = laptop.serves.length;
      found.push({
        tone: "busy",
        words: serves === 0 ? "is away" : "is away; the pods of what it serves answer instead",
        node: laptopId(laptop.session),
        name: laptop.name === "" ? nameOf(laptop) : `${nameOf(laptop)} (${laptop.name})`,
      });
    }
  return found;
}
