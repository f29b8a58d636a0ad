import { Graph, layout } from "@dagrejs/dagre";

import { namespaceId, type Node, type Picture, type ServiceNode } from "./picture";

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Placed {
  /** Places of nodes and namespaces by their ids: upper left corner and size. */
  boxes: Map<string, Box>;
  namespaces: { id: string; name: string; count: number }[];
}

const LAPTOP = { width: 220, height: 60 };
const VARIANT = { width: 230, height: 60 };
const SERVICE = { width: 250, height: 54 };
const PADDING = 14;
const TITLE = 34;
const GAP = 12;
const NODE_GAP = 18;
// One column is easiest to follow; a long one is easier to see when it is folded.
const LONGEST_COLUMN = 12;

interface Inner {
  width: number;
  height: number;
  places: Map<string, { x: number; y: number }>;
}

/** The services of one namespace below each other, those that are used first. */
function inside(services: readonly ServiceNode[]): Inner {
  const columns = Math.max(
    1,
    Math.ceil(services.length / Math.max(LONGEST_COLUMN, Math.sqrt(services.length * 4))),
  );
  const rows = Math.ceil(services.length / columns);
  const places = new Map<string, { x: number; y: number }>();
  services.forEach((one, number) => {
    places.set(one.id, {
      x: PADDING + Math.floor(number / rows) * (SERVICE.width + GAP),
      y: TITLE + (number % rows) * (SERVICE.height + GAP),
    });
  });
  return {
    width: 2 * PADDING + columns * (SERVICE.width + GAP) - GAP,
    height: TITLE + rows * (SERVICE.height + GAP) - GAP + PADDING,
    places,
  };
}

/** Laptops on the left, services by their namespaces on the right, variants between. The same picture always gets the same places. */
export function placed(picture: Picture): Placed {
  const groups = new Map<string, ServiceNode[]>();
  const groupOf = new Map<string, string>();
  for (const node of picture.nodes)
    if (node.kind === "service") {
      const { namespace } = node.service.ref;
      groups.set(namespace, [...(groups.get(namespace) ?? []), node]);
      groupOf.set(node.id, namespaceId(namespace));
    }
  const inner = new Map(
    [...groups].map(([namespace, services]) => [namespaceId(namespace), inside(services)]),
  );

  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: NODE_GAP, ranksep: 70 });
  graph.setDefaultEdgeLabel(() => ({}));
  // From here each kind keeps its column, also where nothing leads to it.
  graph.setNode("root", { width: 1, height: 1 });
  const add = (node: Node) => {
    if (node.kind === "service") return;
    graph.setNode(node.id, node.kind === "laptop" ? { ...LAPTOP } : { ...VARIANT });
    graph.setEdge("root", node.id, { minlen: node.kind === "laptop" ? 1 : 2, weight: 0 });
  };
  picture.nodes.forEach(add);
  for (const [id, { width, height }] of inner) {
    graph.setNode(id, { width, height });
    graph.setEdge("root", id, { minlen: 3, weight: 0 });
  }
  for (const edge of picture.edges) {
    // Drawn from the service to the laptop, laid out the other way round.
    const [from, to] = edge.kind === "consumes" ? [edge.from, edge.to] : [edge.to, edge.from];
    graph.setEdge(groupOf.get(from) ?? from, groupOf.get(to) ?? to, {
      minlen: edge.kind === "consumes" ? 2 : 1,
      weight: edge.kind === "consumes" ? 1 : 3,
    });
  }
  layout(graph);

  const boxes = new Map<string, Box>();
  for (const id of graph.nodes()) {
    if (id === "root") continue;
    const { x, y, width, height } = graph.node(id);
    boxes.set(id, { x: x - width / 2, y: y - height / 2, width, height });
  }
  for (const [id, { places }] of inner) {
    const box = boxes.get(id);
    if (box === undefined) continue;
    for (const [service, place] of places)
      boxes.set(service, { x: box.x + place.x, y: box.y + place.y, ...SERVICE });
  }
  untangle(picture, boxes);
  return {
    boxes,
    namespaces: [...groups].map(([name, services]) => ({
      id: namespaceId(name),
      name,
      count: services.length,
    })),
  };
}

/**
 * Variants beside what they stand for, laptops beside what they serve and consume: dagre knows but the namespaces of both, and would
 * leave their lines tangled.
 */
function untangle(picture: Picture, boxes: Map<string, Box>): void {
  const ends = new Map<string, number[]>();
  const add = (id: string, other: string) => {
    const box = boxes.get(other);
    if (box !== undefined) ends.set(id, [...(ends.get(id) ?? []), box.y + box.height / 2]);
  };
  const settle = (kind: Node["kind"]) => {
    const wanted = picture.nodes.flatMap((node) => {
      const box = boxes.get(node.id);
      if (node.kind !== kind || box === undefined) return [];
      const found = ends.get(node.id) ?? [box.y + box.height / 2];
      return [{ id: node.id, box, middle: found.reduce((sum, y) => sum + y, 0) / found.length }];
    });
    wanted.sort((a, b) => a.middle - b.middle);
    // Each where it wants to be, or below the one before; then all of them up by as much as that has cost on average.
    let free = -Infinity;
    let cost = 0;
    const tops = wanted.map(({ box, middle }) => {
      const top = Math.max(free, middle - box.height / 2);
      free = top + box.height + NODE_GAP;
      cost += top - (middle - box.height / 2);
      return top;
    });
    wanted.forEach(({ id, box }, number) => {
      boxes.set(id, { ...box, y: (tops[number] ?? box.y) - cost / wanted.length });
    });
  };
  for (const edge of picture.edges) if (edge.from.startsWith("service:")) add(edge.to, edge.from);
  settle("variant");
  for (const edge of picture.edges) {
    if (edge.kind === "consumes") add(edge.from, edge.to);
    else if (edge.to.startsWith("laptop:")) add(edge.to, edge.from);
  }
  settle("laptop");
}
