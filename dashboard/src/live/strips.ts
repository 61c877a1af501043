/**
 * Which state each model was in, and when and why it changed.
 *
 * Owns what was seen, and what the gateway remembers of the time before. A time that nobody saw is a gap. Pure.
 */

import { reasonIn, stateOf, type ModelState } from "../states";
import type { Model, ModelEvent } from "../types";
import { told } from "./past";

/** `from` and `to` in milliseconds since the epoch. */
export interface Segment {
  from: number;
  to: number;
  state: ModelState;
  reason: string;
}

interface Mark {
  at: number;
  /** null: from here on nobody looked. */
  state: ModelState | null;
  reason: string;
}

const KEPT = 500;
const LEAVES = new Set<ModelState>(["draining", "stopping", "stopped", "failed", "isolated"]);
/** The page and the gateway see the same thing at times as far apart as this, in milliseconds. */
const APART = 2500;

export class Strips {
  private marks = new Map<string, Mark[]>();

  /** Whether one of them leaves, is gone or has failed since the last look. */
  see(models: Model[], now: number): boolean {
    const names = new Set(models.map((model) => model.name));
    for (const name of this.marks.keys()) if (!names.has(name)) this.marks.delete(name);
    const marked = models.map((model) => {
      const state = stateOf(model);
      const reason = state === "starting" ? "" : reasonIn(model); // how far it is, is old at once
      return this.mark(model.name, { at: now, state, reason });
    });
    return marked.some((state) => state !== null && LEAVES.has(state));
  }

  lose(now: number): void {
    for (const name of this.marks.keys()) this.mark(name, { at: now, state: null, reason: "" });
  }

  /** Of the time before the first mark, and of gaps, the gateway knows more; of what was seen it knows the grounds. */
  remember(past: Record<string, ModelEvent[]>): void {
    for (const [name, events] of Object.entries(past)) {
      const marks = told(events, name);
      const seen = this.marks.get(name) ?? [];
      const last = seen.findLastIndex((mark) => mark.state === null);
      const kept = last < 0 ? seen : seen.slice(last + 1);
      const first = kept[0]?.at ?? Infinity;
      for (const mark of kept) mark.reason = groundsOf(mark, marks) ?? mark.reason;
      this.marks.set(name, [...marks.filter((mark) => mark.at < first), ...kept].slice(-KEPT));
    }
  }

  segments(name: string, from: number, to: number): Segment[] {
    const marks = this.marks.get(name) ?? [];
    return marks.flatMap((mark, index) => {
      const end = marks[index + 1]?.at ?? to;
      if (mark.state === null || end <= from || mark.at >= to) return [];
      return [{ from: Math.max(from, mark.at), to: Math.min(to, end), state: mark.state, reason: mark.reason }];
    });
  }

  /** The state, where it is a new one. */
  private mark(name: string, mark: Mark): ModelState | null {
    const marks = this.marks.get(name) ?? [];
    this.marks.set(name, marks);
    const last = marks.at(-1);
    if (last && last.state === mark.state) {
      if (mark.reason) last.reason = mark.reason;
      return null;
    }
    const leaves = last?.state === "stopping" || last?.state === "draining";
    marks.push(leaves && mark.state === "stopped" && !mark.reason ? { ...mark, reason: last.reason } : mark);
    if (marks.length > KEPT) marks.shift();
    return last ? mark.state : null;
  }
}

function groundsOf(mark: Mark, marks: readonly Mark[]): string | undefined {
  return marks.find((one) => one.state === mark.state && one.reason && Math.abs(one.at - mark.at) < APART)?.reason;
}
