/** What the last hour's requests add up to. Pure. */

import type { Usage } from "../../types";

export interface Hour {
  requests: number;
  /** The engine's or the gateway's fault; neither a refusal, nor what a person cancelled. */
  errors: number;
  rejected: number;
  /** The state that most of the errors have: where a link leads. */
  worst: "upstream_error" | "truncated" | "rejected";
}

export function added(rows: readonly Usage[]): Hour {
  const sum = (name: "requests" | "upstream_error" | "truncated" | "rejected"): number => rows.reduce((all, row) => all + row[name], 0);
  const [engine, cut, rejected] = [sum("upstream_error"), sum("truncated"), sum("rejected")];
  const worst = engine || cut ? (engine >= cut ? "upstream_error" : "truncated") : "rejected";
  return { requests: sum("requests"), errors: engine + cut, rejected, worst };
}

/** Models that were asked for, the busiest first; requests that named none have no row. */
export function byModel(rows: readonly Usage[]): (Usage & { model: string })[] {
  return rows.filter((row): row is Usage & { model: string } => row.model !== null).sort((a, b) => b.requests - a.requests);
}

export function measure(row: Usage, name: string): number | null {
  const value = row[name];
  return typeof value === "number" ? value : null;
}
