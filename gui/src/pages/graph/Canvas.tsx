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
  type FitViewOptions,
  type Node as FlowNode,
} from "@xyflow/react";
import { useEffect, useMemo, type FocusEvent } from "react";

import { Attention } from "./Attention";
import { placed } from "./layout";
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

/** What is brought into sight, beside what needs attention. */
function fitting(hasAttention: boolean): FitViewOptions {
  const beside = hasAttention && window.innerWidth >= 1000;
  return {
    padding: { top: "24px", right: "48px", bottom: "60px", left: beside ? "320px" : "24px" },
    maxZoom: 1,
    minZoom: window.innerWidth >= 1000 ? 0.25 : 0.1,
  };
}

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
  const hasAttention = picture.attention.length > 0;
  const fit = useMemo(() => fitting(hasAttention), [hasAttention]);
  useEffect(() => {
    void flow.fitView({ ...fit, duration });
  }, [flow, filter, fit, duration]);

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
      <div className={classes.canvas} data-less={picture.leftOut > 0 || undefined} onFocus={onFocus}>
        <ReactFlow
          nodes={nodes}
          edges={edges}
          nodeTypes={TYPES}
          colorMode={scheme}
          fitView
          fitViewOptions={fit}
          minZoom={0.1}
          maxZoom={1.6}
          nodesDraggable={false}
          nodesConnectable={false}
          nodesFocusable={false}
          edgesFocusable={false}
          elementsSelectable={false}
          zoomOnDoubleClick={false}
          disableKeyboardA11y
          proOptions={{ hideAttribution: true }}
          aria-label="Laptops, services and variants"
        >
          <Background gap={24} />
          <Controls showInteractive={false} position="bottom-right" fitViewOptions={fit} />
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
    ariaLabel: isConsumed ? "consumes" : "is served by",
    className: [classes[edge.kind], edge.isAway ? classes.away : ""].join(" "),
    markerEnd: {
      type: MarkerType.ArrowClosed,
      color: isConsumed ? "var(--xy-edge-stroke)" : "var(--codezero-accent)",
    },
    ...(edge.count === undefined ? {} : { label: `${String(edge.count)} services` }),
  };
}
