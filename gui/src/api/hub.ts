import createClient from "openapi-fetch";

import type { paths } from "./hub.generated";
import { send } from "./send";

/**
 * The Hub's API, typed by its OpenAPI document: `const space = await told(hub.GET("/api/v1/...", { params }))`.
 * A refusal is thrown as `Problem`.
 */
export const hub = createClient<paths>({ baseUrl: location.origin, fetch: send });

/** The content of an answer. */
export async function told<T>(answer: Promise<{ data?: T; response: Response }>): Promise<NonNullable<T>> {
  const { data, response } = await answer;
  if (data === undefined || data === null) {
    if (response.status === 202 || response.status === 204) return {} as NonNullable<T>;
    throw new TypeError("an answer without content");
  }
  return data;
}

interface Page<T> {
  items: T[];
  next?: string | null;
}

const MOST_PAGES = 500;

/** All entries of a list, page by page: `everything((cursor) => told(hub.GET(..., { params: { query: { cursor, limit: 200 } } })))`. */
export async function everything<T>(page: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const found: T[] = [];
  let cursor: string | undefined;
  for (let number = 0; number < MOST_PAGES; number += 1) {
    const part = await page(cursor);
    found.push(...part.items);
    if (part.next === undefined || part.next === null) return found;
    cursor = part.next;
  }
  return found;
}

/** Made once per intention and sent again with it, so that the Hub does a thing once. */
export function idempotencyKey(): string {
  return crypto.randomUUID();
}
