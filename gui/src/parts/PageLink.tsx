import { Anchor, Button, type AnchorProps, type ButtonProps } from "@mantine/core";
import { createLink } from "@tanstack/react-router";
import type { AnchorHTMLAttributes, Ref } from "react";

type Anchored = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, keyof AnchorProps> & {
  ref?: Ref<HTMLAnchorElement>;
};

/** A link to another page of ours: `<PageLink to="/o/$org/spaces" params={{ org }}>`. */
export const PageLink = createLink((props: AnchorProps & Anchored) => <Anchor {...props} />);

/** The same as a button. */
export const PageButton = createLink(
  (props: ButtonProps & Omit<AnchorHTMLAttributes<HTMLAnchorElement>, keyof ButtonProps> & Anchored) => (
    <Button component="a" {...props} />
  ),
);
