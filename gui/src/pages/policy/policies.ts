import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { everything, hub, told } from "../../api/hub";
import type { Checked, Policy, PolicyVersion } from "../../api/hub.generated";
import { Problem } from "../../api/problem";
import { useMembersById } from "../../parts/members";
import { useSession } from "../../session/session";
import { useSource } from "../../space/source";

/** The Teamspace whose policy this is, as the Hub's API names it. */
export interface Place {
  organization: string;
  space: string;
}

export function usePlace(): Place {
  const source = useSource();
  if (source.kind !== "hub") throw new Error("policies are kept by a Hub");
  return { organization: source.organization, space: source.space };
}

/** What is asked about policies, by the kind that the Hub's messages name. */
export function keyOf({ organization, space }: Place, ...what: unknown[]): readonly unknown[] {
  return ["hub", organization, "policy", space, ...what];
}

/** The policy in force. */
export function usePolicy(enabled = true) {
  const place = usePlace();
  return useQuery({
    queryKey: keyOf(place, "in force"),
    enabled,
    queryFn: ({ signal }): Promise<Policy> =>
      told(
        hub.GET("/api/v1/organizations/{organization}/spaces/{space}/policy", {
          params: { path: { ...place } },
          signal,
        }),
      ),
  });
}

/** All versions without their texts, the latest first. */
export function useVersions() {
  const place = usePlace();
  return useQuery({
    queryKey: keyOf(place, "versions"),
    queryFn: ({ signal }): Promise<PolicyVersion[]> =>
      everything((cursor) =>
        told(
          hub.GET("/api/v1/organizations/{organization}/spaces/{space}/policy/versions", {
            params: { path: { ...place }, query: { limit: 200, cursor: cursor ?? null } },
            signal,
          }),
        ),
      ),
  });
}

/** One version with its text, which never changes. */
export function useVersion(number: number | undefined) {
  const place = usePlace();
  return useQuery({
    queryKey: ["hub", place.organization, "policy versions", place.space, number],
    enabled: number !== undefined,
    staleTime: Infinity,
    queryFn: ({ signal }): Promise<Policy> =>
      told(
        hub.GET("/api/v1/organizations/{organization}/spaces/{space}/policy/versions/{number}", {
          params: { path: { ...place, number: String(number) } },
          signal,
        }),
      ),
  });
}

// More the Hub does not take to be looked at.
export const MOST_CHARACTERS = 262_144;

/** What the Hub says of a text: `checked` is about `of`, which is the text before while another one is looked at. */
export function useCheck(text: string | undefined) {
  const place = usePlace();
  return useQuery({
    queryKey: keyOf(place, "check", text),
    enabled: text !== undefined && text.length <= MOST_CHARACTERS,
    placeholderData: keepPreviousData,
    gcTime: 60_000,
    // It looks at one text after the other, and says so where there are many.
    retry: (failures, error) =>
      error instanceof Problem && error.status >= 400 && error.status < 500
        ? error.status === 429 && failures < 5
        : failures < 2,
    queryFn: async ({ signal }): Promise<{ of: string; checked: Checked }> => {
      const of = text ?? "";
      const checked = await told(
        hub.POST("/api/v1/organizations/{organization}/spaces/{space}/policy/check", {
          params: { path: { ...place } },
          body: { text: of },
          signal,
        }),
      );
      return { of, checked };
    },
  });
}

/** What people call the author of a version. */
export function useAuthor(): (user: string) => string {
  const members = useMembersById();
  const { me } = useSession();
  return (user) => {
    if (me?.user.id === user) return me.user.name;
    const name = members.get(user)?.name;
    return name === undefined || name === "" ? `Somebody who is no member (${user.slice(-6)})` : name;
  };
}

/** Lines end with \n in an editor, whatever they end with in the document; `asWritten` takes them back to it. */
export function asEdited(text: string): string {
  return text.replace(/\r\n?/g, "\n");
}

export function asWritten(text: string, like: string): string {
  return /\r\n/.test(like) && !/(^|[^\r])\n/.test(like) ? text.replaceAll("\n", "\r\n") : text;
}
