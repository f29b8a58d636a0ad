import { Text, UnstyledButton, VisuallyHidden } from "@mantine/core";
import { IconAlertTriangle, IconArrowsSplit, IconCopy, IconMoon, IconServer2 } from "@tabler/icons-react";
import { Handle, Position, type Node as FlowNode, type NodeProps } from "@xyflow/react";
import { createContext, useContext, type ReactNode } from "react";

import { Person } from "../../parts";
import { healthInWords } from "../../space/services";
import { answersInWords } from "../../space/wording";
import classes from "./Nodes.module.css";
import { problemOf, type LaptopNode, type Node, type ServiceNode, type VariantNode } from "./picture";

/** What the nodes need of the page: what is open, and how to open another one. */
export const Opening = createContext<{ opened: string | undefined; open: (node: string) => void }>({
  opened: undefined,
  open: () => undefined,
});

export type OfKind<N extends Node> = FlowNode<{ node: N }>;
export type NamespaceFlow = FlowNode<{ name: string; count: number }>;

function Button({
  id,
  tone,
  className,
  children,
}: {
  id: string;
  tone?: "bad" | "busy" | undefined;
  className?: string | undefined;
  children: ReactNode;
}) {
  const { opened, open } = useContext(Opening);
  return (
    <>
      <UnstyledButton
        className={className === undefined ? classes.node : `${classes.node ?? ""} ${className}`}
        data-tone={tone}
        data-node={id}
        data-open={opened === id || undefined}
        onClick={() => {
          open(id);
        }}
      >
        {children}
      </UnstyledButton>
      <Ends />
    </>
  );
}

/** Where lines begin and end. */
function Ends() {
  return [Position.Left, Position.Right].flatMap((side) =>
    (["source", "target"] as const).map((type) => (
      <Handle
        key={type + side}
        id={`${type} ${side}`}
        type={type}
        position={side}
        isConnectable={false}
        className={classes.handle ?? ""}
      />
    )),
  );
}

function Second({ children }: { children: ReactNode }) {
  return (
    <Text size="xs" truncate c="dimmed" component="div">
      {children}
    </Text>
  );
}

export function LaptopShown({ data: { node } }: NodeProps<OfKind<LaptopNode>>) {
  const { laptop, name } = node;
  const isAway = laptop.state === "away";
  const machine = laptop.name === "" ? "laptop" : laptop.name;
  return (
    <Button id={node.id} tone={isAway ? "busy" : undefined}>
      <div className={classes.texts}>
        <Person name={name} id={laptop.user} />
        <Second>
          <bdi>{machine}</bdi>
          {!isAway && <VisuallyHidden>, online</VisuallyHidden>}
        </Second>
      </div>
      {isAway && (
        <Text size="xs" component="div" style={{ display: "flex", alignItems: "center", gap: 4 }}>
          <IconMoon size={14} aria-hidden /> away
        </Text>
      )}
    </Button>
  );
}

export function ServiceShown({ data: { node } }: NodeProps<OfKind<ServiceNode>>) {
  const problem = problemOf(node.service);
  const serving = node.service.serving?.state;
  const words = problem?.words ?? healthInWords(node.service);
  return (
    <Button id={node.id} tone={problem?.tone}>
      {problem === undefined ? (
        <IconServer2 size={18} stroke={1.6} aria-hidden />
      ) : (
        <IconAlertTriangle size={18} color="var(--mantine-color-red-6)" aria-hidden />
      )}
      <div className={classes.texts}>
        <Text size="sm" fw={500} truncate title={node.ref}>
          <VisuallyHidden>{node.service.ref.namespace}/</VisuallyHidden>
          <bdi>{node.service.ref.name}</bdi>
        </Text>
        <Second>
          <bdi>{words}</bdi>
          {problem === undefined && serving !== undefined && serving !== "active" && `, ${serving}`}
        </Second>
      </div>
    </Button>
  );
}

export function VariantShown({ data: { node } }: NodeProps<OfKind<VariantNode>>) {
  const { served } = node;
  const words = answersInWords(served);
  return (
    <Button id={node.id} className={classes.variant} tone={served.state === "active" ? undefined : "busy"}>
      {served.mirror === null ? (
        <IconArrowsSplit size={16} stroke={1.6} aria-hidden />
      ) : (
        <IconCopy size={16} stroke={1.6} aria-hidden />
      )}
      <div className={classes.texts}>
        <Text size="sm" truncate title={words}>
          <bdi>{words}</bdi>
        </Text>
        <Second>
          {served.mirror === null ? "variant" : "mirror"} of <bdi>{served.user_name}</bdi>
          <VisuallyHidden> for {served.service}</VisuallyHidden>
          {served.state !== "active" && `, ${served.state}`}
        </Second>
      </div>
    </Button>
  );
}

export function NamespaceShown({ data: { name, count } }: NodeProps<NamespaceFlow>) {
  return (
    <div className={classes.namespace}>
      <Text size="xs" fw={600} truncate>
        <bdi>{name}</bdi>{" "}
        <Text span size="xs" c="dimmed" fw={400}>
          {count === 1 ? "1 service" : `${String(count)} services`}
        </Text>
      </Text>
      <Ends />
    </div>
  );
}
