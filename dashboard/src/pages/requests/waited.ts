/** Why a request that has ended had to wait: what the models did when it came, and who left for it. Pure. */

import { clock } from "../../format";
import { told } from "../../live/past";
import type { ModelState } from "../../states";
import type { ModelEvent, RequestRow } from "../../types";

/** A wait that is worth a word, in milliseconds. */
const NOTABLE = 500;
const HOLDS_ROOM = new Set<ModelState>(["starting", "ready", "draining", "stopping"]);

export const isNotable = (row: RequestRow): boolean => row.state !== "in_flight" && (row.queue_ms ?? 0) >= NOTABLE;

export function whyQueued(row: RequestRow, past: Record<string, ModelEvent[]>): string {
  if (!isNotable(row) || !row.model) return "";
  const came = row.started_at * 1000;
  const own = stateAt(past, row.model, came);
  if (own === "ready") return `${row.model} was loaded, and all its places were taken.`;
  const isLeaving = own === "draining" || own === "stopping";
  const begun = isLeaving ? goneAt(row, past, came) : came;
  if (begun === null) return `${row.model} was leaving: its old process had to end first.`;
  const left = whoLeft(row, past, came);
  const holds = (name: string): boolean => name === left?.name || HOLDS_ROOM.has(stateAt(past, name, begun) ?? "stopped");
  const holders = Object.keys(past).filter((name) => name !== row.model && holds(name));
  if (!holders.length) return "";
  const before = isLeaving ? `${row.model} had just left, and there` : "There";
  const after = left ? ` ${left.name} left for it at ${clock(left.at)}.` : "";
  return `${before} was no room: ${listed(holders)} loaded.${after}`;
}

function stateAt(past: Record<string, ModelEvent[]>, name: string, at: number): ModelState | undefined {
  return told(past[name] ?? [], name).findLast((mark) => mark.at <= at)?.state;
}

/** When the model's own process was gone, if there was time left to wait for room. */
function goneAt(row: RequestRow, past: Record<string, ModelEvent[]>, came: number): number | null {
  const gone = told(past[row.model ?? ""] ?? [], row.model ?? "").find(({ at, state }) => at > came && state === "stopped");
  return gone && gone.at < came + (row.queue_ms ?? 0) - NOTABLE ? gone.at : null;
}

function whoLeft(row: RequestRow, past: Record<string, ModelEvent[]>, came: number): { name: string; at: number } | null {
  const until = came + (row.queue_ms ?? 0);
  for (const name of Object.keys(past)) {
    const mark = told(past[name] ?? [], name).find(({ at, reason }) => at >= came && at <= until && isFor(reason, row.model ?? ""));
    if (mark) return { name, at: mark.at };
  }
  return null;
}

/** "evicted for qwen: no other was idle", "making room for qwen". */
const isFor = (reason: string, model: string): boolean => reason.endsWith(` for ${model}`) || reason.includes(` for ${model}:`);

function listed(names: string[]): string {
  return `${names.join(", ")} ${names.length === 1 ? "was" : "were"}`;
}
