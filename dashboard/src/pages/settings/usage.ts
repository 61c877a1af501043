/** Sums of requests as `/api/usage` has them, ready for a table with bars. Pure. */

export type By = "model" | "key" | "day";

export interface UsageRow {
  model?: string | null;
  key?: string | null;
  day?: string;
  requests: number;
  ok: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  [more: string]: unknown;
}

export interface UsagePage {
  usage: UsageRow[];
}

export interface Sum {
  name: string;
  requests: number;
  failed: number;
  prompt: number;
  cached: number;
  completion: number;
  tokens: number;
  /** 0 to 1 of the largest. */
  share: number;
}

const MOST = 200;
const WITHOUT: Record<By, string> = { model: "no model", key: "no key", day: "unknown" };

/** The largest first; days in their order, the newest first. */
export function sums(rows: readonly UsageRow[], by: By): Sum[] {
  const all = rows.map((row) => sumOf(row, by));
  const largest = Math.max(1, ...all.map(({ tokens }) => tokens));
  const order = by === "day" ? (a: Sum, b: Sum) => b.name.localeCompare(a.name) : (a: Sum, b: Sum) => b.tokens - a.tokens;
  return all.map((sum) => ({ ...sum, share: sum.tokens / largest })).sort(order).slice(0, MOST);
}

function sumOf(row: UsageRow, by: By): Sum {
  const { requests, ok, prompt_tokens: prompt, cached_tokens: cached, completion_tokens: completion } = row;
  return { name: row[by] ?? WITHOUT[by], requests, failed: requests - ok, prompt, cached, completion, tokens: prompt + completion, share: 0 };
}

/** The beginning of the first of the last `days` days, in seconds since the epoch; days are those of UTC. */
export function since(days: number, now = Date.now()): number {
  return days ? (Math.floor(now / 86_400_000) - days + 1) * 86_400 : 0;
}
