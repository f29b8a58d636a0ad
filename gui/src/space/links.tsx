import { Anchor, type AnchorProps } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { useSource } from "./source";

/** Where the pages of the Teamspace are whose page this is. */
export function useSpaceBase(): string {
  const source = useSource();
  return source.kind === "hub" ? `/o/${source.organization}/spaces/${source.space}` : "/machine";
}

/** A link to another page of the same Teamspace, with what is to be opened or filtered there. */
export function SpaceLink({
  page,
  search,
  children,
  ...others
}: {
  page: "catalog" | "graph" | "people" | "activity";
  search?: Record<string, string>;
  children: ReactNode;
} & AnchorProps) {
  const base = useSpaceBase();
  return (
    <Anchor
      {...others}
      renderRoot={(props) => <Link to={`${base}/${page}`} search={search ?? {}} {...props} />}
    >
      {children}
    </Anchor>
  );
}

/** A service (`namespace/name`) that leads to itself in the catalog. */
export function ServiceLink({ service, ...others }: { service: string } & AnchorProps) {
  return (
    <SpaceLink page="catalog" search={{ service }} size="sm" {...others}>
      <bdi>{service}</bdi>
    </SpaceLink>
  );
}
