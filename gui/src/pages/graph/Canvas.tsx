import "@xyflow/react/dist/style.css";

import { useComputedColorScheme } from "@mantine/core";
import { useReducedMotion } from "@mantine/hooks";
import {
  Background,
  Controls,
  MarkerType,
  Panel,
  Position,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
  type Edge as FlowEdge,
  type Node as FlowNode,
  type NodeHandle,
} from "@xyflow/react";
import { useEffect, useMemo, type FocusEvent } from "react";

import { Attention } from "./Attention";
import { placed, type Box } from "./layout";
import { Legend } from "./Legend";
import { LaptopShown, NamespaceShown, Opening, ServiceShown, VariantShown } from "./Nodes";
import classes from "./Nodes.module.css";
import type { Edge, Picture } from "./picture";

const TYPES = {
  laptop: LaptopShown,
  service: ServiceShown,
  variant: VariantShown,
  namespace: NamespaceShown,
};
const FIT = { padding: 0.08, maxZoom: 1, minZoom: 0.25 };

/** The graph itself. `filter` says what is shown: where it changes, all of it is brought into sight. */
export function Canvas(props: {
  picture: Picture;
  filter: string;
  opened: string | undefined;
  onOpen: (node: string) => void;
}) {
  return (
    <ReactFlowProvider>
      <Flow {...props} />
    </ReactFlowProvider>
  );
}

function Flow({
  picture,
  filter,
  opened,
  onOpen,
}: {
  picture: Picture;
  filter: string;
  opened: string | undefined;
  onOpen: (node: string) => void;
}) {
  const scheme = useComputedColorScheme("light");
  const isStill = useReducedMotion();
  const flow = useReactFlow();
  const { nodes, edges } = useMemo(() => drawn(picture), [picture]);
  const duration = isStill ? 0 : 250;
  useEffect(() => {
    void flow.fitView({ ...FIT, duration });
  }, [flow, filter, duration]);

  // Whoever goes through the nodes by keyboard sees where they are.
  const onFocus = (event: FocusEvent<HTMLDivElement>) => {
    const node = event.target.dataset.node;
    if (node === undefined || !event.target.matches(":focus-visible")) return;
    const { x, y, zoom } = flow.getViewport();
    const frame = event.currentTarget.getBoundingClientRect();
    const box = flow.getNode(node);
    if (box === undefined) return;
    const [left, top] = [box.position.x * zoom + x, box.position.y * zoom + y];
    const [right, bottom] = [left + (box.width ?? 0) * zoom, top + (box.height ?? 0) * zoom];
    if (left >= 0 && top >= 0 && right <= frame.width && bottom <= frame.height) return;
    void flow.setCenter(box.position.x + (box.width ?? 0) / 2, box.position.y + (box.height ?? 0) / 2, {
      zoom: Math.max(zoom, 0.6),
      duration,
    });
  };
  const opening = useMemo(() => ({ opened, open: onOpen }), [opened, onOpen]);
  return (
    <Opening value={opening}>
      <div className={classes.canvas} onFocus={onFocus}>
        <ReactFlow
          nodes={nodes}
          edges={edges}
          nodeTypes={TYPES}
          colorMode={scheme}
          fitView
          fitViewOptions={FIT}
          minZoom={0.1}
          maxZoom={1.6}
          nodesDraggable={false}
          nodesConnectable={false}
          nodesFocusable={false}
          edgesFocusable={false}
          elementsSelectable={false}
          zoomOnDoubleClick={false}
          proOptions={{ hideAttribution: true }}
          aria-label="Laptops, services and variants"
        >
          <Background gap={24} />
          <Controls showInteractive={false} position="bottom-right" fitViewOptions={FIT} />
          <Panel position="top-left">
            <Attention items={picture.attention} onOpen={onOpen} />
          </Panel>
          <Panel position="bottom-left">
            <Legend />
          </Panel>
        </ReactFlow>
      </div>
    </Opening>
  );
}

function handle(type: "source" | "target", side: Position, box: Box): NodeHandle {
  return {
    id: `${type} ${side}`,
    type,
    position: side,
    x: side === Position.Left ? 0 : box.width,
    y: box.height / 2,
    width: 1,
    height: 1,
  };
}

function drawn(picture: Picture): { nodes: FlowNode[]; edges: FlowEdge[] } {
  const { boxes, namespaces } = placed(picture);
  const at = (id: string) => {
    const box = boxes.get(id) ?? { x: 0, y: 0, width: 1, height: 1 };
    const { x, y, width, height } = box;
    return {
      id,
      position: { x, y },
      width,
      height,
      measured: { width, height },
      // Where lines begin and end is known, so nothing has to be measured in the document.
      handles: [Position.Left, Position.Right].flatMap((side) => [
        handle("source", side, box),
        handle("target", side, box),
      ]),
    };
  };
  return {
    nodes: [
      ...namespaces.map(({ id, name, count }) => ({
        ...at(id),
        type: "namespace",
        data: { name, count },
        zIndex: -1,
      })),
      ...picture.nodes.map((node) => ({ ...at(node.id), type: node.kind, data: { node } })),
    ],
    edges: picture.edges.map(line),
  };
}

function line(edge: Edge): FlowEdge {
  const isConsumed = edge.kind === "consumes";
  const [from, to] = isConsumed ? [Position.Right, Position.Left] : [Position.Left, Position.Right];
  return {
    id: edge.id,
    source: edge.from,
    target: edge.to,
    sourceHandle: `source ${from}`,
    targetHandle: `target ${to}`,
    className: [classes[edge.kind], edge.isAway ? classes.away : ""].join(" "),
    markerEnd: {
      type: MarkerType.ArrowClosed,
      color: isConsumed ? "var(--xy-edge-stroke)" : "var(--mantine-primary-color-filled)",
    },
    ...(edge.count === undefined ? {} : { label: `${String(edge.count)} services` }),
  };
}
