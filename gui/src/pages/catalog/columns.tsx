import { memo } from "react";

import type { ConsumedService, Presence, Service } from "../../api/agent.generated";
import type { ColumnDef } from "../../parts/DataTable";
import {
  consumedInWords,
  healthInWords,
  healthOf,
  KINDS,
  portsInWords,
  refOf,
  type Consumers,
} from "../../space/services";
import classes from "./Catalog.module.css";
import { Face } from "./Face";

const MOST_FACES = 4;

/** What is known of who consumes: by this machine where it has an agent, else by whom. */
export type Consumption =
  { by: "machine"; consumed: ReadonlyMap<string, ConsumedService> } | { by: "team"; consumers: Consumers };

// Cells are the same while their service is: what scrolls by is not made anew.

const Name = memo(function Name({ service }: { service: Service }) {
  return (
    <>
      <bdi className={`${classes.line ?? ""} ${classes.name ?? ""}`} title={refOf(service.ref)}>
        {service.ref.name}
      </bdi>
      <bdi className={`${classes.line ?? ""} ${classes.second ?? ""}`}>{service.ref.namespace}</bdi>
    </>
  );
});

const Ports = memo(function Ports({ service }: { service: Service }) {
  const words = portsInWords(service);
  return (
    <bdi className={classes.line} title={words}>
      {words === "" ? "none" : words}
    </bdi>
  );
});

const Health = memo(function Health({ service }: { service: Service }) {
  return (
    <span className={classes.state} data-tone={healthOf(service)}>
      {healthInWords(service)}
    </span>
  );
});

const Consumed = memo(function Consumed({ consumed }: { consumed: ConsumedService | undefined }) {
  if (consumed === undefined) return <span className={classes.second}>not consumed</span>;
  const tone = { enabled: "good", unready: "busy", pending: "busy", refused: "bad", conflict: "bad" }[
    consumed.state
  ];
  return (
    <span className={classes.state} data-tone={tone} title={consumed.reason ?? undefined}>
      {consumedInWords(consumed)}
    </span>
  );
});

interface Shown {
  key: string;
  user: string;
  name: string;
  away: boolean;
}

function Faces({ faces, nobody }: { faces: Shown[]; nobody: string }) {
  if (faces.length === 0) return <span className={classes.second}>{nobody}</span>;
  const left = faces.length - MOST_FACES;
  return (
    <span className={classes.people}>
      {faces.slice(0, MOST_FACES).map((face) => (
        <Face key={face.key} name={face.name} id={face.user} away={face.away} />
      ))}
      {left > 0 && <span className={classes.second}>+{left}</span>}
    </span>
  );
}

const ConsumedBy = memo(function ConsumedBy({ consumers }: { consumers: readonly Presence[] }) {
  const faces = new Map<string, Shown>();
  for (const { device, user_name, state } of consumers) {
    const before = faces.get(device.user);
    const away = state !== "online" && (before?.away ?? true);
    faces.set(device.user, { key: device.user, user: device.user, name: user_name, away });
  }
  return <Faces faces={[...faces.values()]} nobody="nobody" />;
});

const Variants = memo(function Variants({ service }: { service: Service }) {
  const variants = service.serving?.variants ?? [];
  return (
    <Faces
      nobody="none"
      faces={variants.map((one) => ({
        key: one.variant_id,
        user: one.user,
        name: one.user_name,
        away: one.state === "away",
      }))}
    />
  );
});

const ONLY_WIDE: readonly (string | undefined)[] = ["ports", "kind"];

/** The columns of the catalog; where there is little room those without which a service is still known. */
export function columnsOf(consumption: Consumption | undefined, isWide: boolean): ColumnDef<Service>[] {
  const columns: ColumnDef<Service>[] = [
    {
      id: "service",
      header: "Service",
      size: 270,
      accessorFn: (service) => refOf(service.ref),
      cell: ({ row }) => <Name service={row.original} />,
    },
    {
      id: "ports",
      header: "Ports",
      size: 180,
      accessorFn: (service) => service.ports[0]?.port ?? 0,
      cell: ({ row }) => <Ports service={row.original} />,
    },
    {
      id: "health",
      header: "Health",
      size: 160,
      accessorFn: (service) => (service.total === 0 ? -1 : service.ready / service.total),
      cell: ({ row }) => <Health service={row.original} />,
    },
    {
      id: "kind",
      header: "Kind",
      size: 120,
      accessorFn: (service) => KINDS[service.kind],
      cell: ({ row }) => KINDS[row.original.kind],
    },
  ];
  if (consumption?.by === "machine")
    columns.push({
      id: "consumed",
      header: "On this machine",
      size: 190,
      accessorFn: (service) => consumption.consumed.get(refOf(service.ref))?.state ?? "~",
      cell: ({ row }) => <Consumed consumed={consumption.consumed.get(refOf(row.original.ref))} />,
    });
  if (consumption?.by === "team")
    columns.push({
      id: "consumed",
      header: "Consumed by",
      size: 150,
      sortDescFirst: true,
      accessorFn: (service) => consumption.consumers(service.ref).length,
      cell: ({ row }) => <ConsumedBy consumers={consumption.consumers(row.original.ref)} />,
    });
  columns.push({
    id: "variants",
    header: "Variants",
    size: 150,
    sortDescFirst: true,
    accessorFn: (service) => service.serving?.variants.length ?? 0,
    cell: ({ row }) => <Variants service={row.original} />,
  });
  return isWide ? columns : columns.filter((column) => !ONLY_WIDE.includes(column.id));
}
