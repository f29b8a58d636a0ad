import {
  keepPreviousData,
  useInfiniteQuery,
  useQuery,
  useQueryClient,
  type InfiniteData,
} from "@tanstack/react-query";
import { useCallback, useEffect, useMemo } from "react";

import { hub, told } from "../../api/hub";
import type { AuditEntry, ListedAuditEntry } from "../../api/hub.generated";
import { useOrganization } from "../../session/session";
import { queryOf, type Filter } from "./filter";

const PAGE = 100;
// Not every change in an organization is told of by the stream.
const LOOK_EVERY_MS = 5000;

/**
 * What was read, with what has come since then: `newest` is the first page as it is now. `hasGap` where nothing shows that there is none between the two.
 */
export function merged(
  read: readonly AuditEntry[],
  newest: ListedAuditEntry | undefined,
): { entries: AuditEntry[]; hasGap: boolean } {
  const first = read[0]?.number ?? 0;
  const fresh = (newest?.items ?? []).filter((entry) => entry.number > first);
  const hasGap =
    newest !== undefined &&
    fresh.length > 0 &&
    fresh.length === newest.items.length &&
    newest.next !== undefined &&
    newest.next !== null;
  return { entries: hasGap ? [...fresh] : [...fresh, ...read], hasGap };
}

/** The audit, the latest first: read page by page, and with `live` what comes is added above. */
export function useEntries(filter: Filter, live: boolean) {
  const organization = useOrganization().id;
  const client = useQueryClient();
  const page = (cursor: string | null) =>
    told(
      hub.GET("/api/v1/organizations/{organization}/audit", {
        params: { path: { organization }, query: { ...queryOf(filter), limit: PAGE, cursor } },
      }),
    );
  // What was written stays as it is, so that pages are never read anew: not even when all of the Hub's is, which is below "hub".
  const pagesKey = ["audit-pages", organization, filter] as const;
  const pages = useInfiniteQuery<
    ListedAuditEntry,
    Error,
    InfiniteData<ListedAuditEntry>,
    typeof pagesKey,
    string | null
  >({
    queryKey: pagesKey,
    queryFn: ({ pageParam }) => page(pageParam),
    initialPageParam: null,
    getNextPageParam: (last) => last.next ?? null,
    staleTime: Infinity,
    placeholderData: keepPreviousData,
  });
  const newest = useQuery({
    queryKey: ["hub", organization, "audit", filter],
    queryFn: () => page(null),
    enabled: live && pages.isSuccess && !pages.isPlaceholderData,
    refetchInterval: LOOK_EVERY_MS,
  });
  const { data } = pages;
  const latest = live ? newest.data : undefined;
  const { entries, hasGap } = useMemo(
    () => merged(data?.pages.flatMap((one) => one.items) ?? [], latest),
    [data, latest],
  );
  useEffect(() => {
    if (hasGap) void client.resetQueries({ queryKey: ["audit-pages", organization, filter], exact: true });
  }, [hasGap, client, organization, filter]);
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = pages;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return {
    entries,
    more,
    hasMore: hasNextPage,
    isReadingMore: isFetchingNextPage,
    query: {
      data: data === undefined ? undefined : entries,
      error: pages.error ?? newest.error,
      isPending: pages.isPending,
      refetch: () => (pages.error === null ? newest.refetch() : pages.refetch()),
    },
  };
}
