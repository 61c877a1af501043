/** What is asked of the list of requests, as the page's query and as the gateway's. Pure. */

import type { RequestState } from "../../types";

export const ROWS = 50;
export const NEWEST = "-started_at";

export interface Asked {
  sort: string;
  model: string;
  state: RequestState | "";
  key: string;
}

export function asked(query: URLSearchParams): Asked {
  return {
    sort: query.get("sort") ?? NEWEST,
    model: query.get("model") ?? "",
    state: (query.get("state") ?? "") as RequestState | "",
    key: query.get("key") ?? "",
  };
}

/** `before` is where an earlier page ended. */
export function path({ sort, model, state, key }: Asked, before: string | null): string {
  const query = new URLSearchParams({ limit: String(ROWS), sort });
  for (const [name, value] of Object.entries({ model, state, key, before })) if (value) query.set(name, value);
  return `api/requests?${query}`;
}
