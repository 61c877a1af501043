/**
 * Which state each model was in, and when and why it changed.
 *
 * Owns what was seen, and what the gateway remembers of the time before. A time that nobody saw is a gap. Pure.
 */

import { reasonIn, stateOf, type ModelState } from "../states";
import type { Model } from "../types";

/** As the gateway tells it: `at` in seconds since the epoch. */
export interface Change {
  at: number;
  state: string;
  reason?: string | null;
}

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
const STATES = new Set<string>([
  "stopped", "queued", "starting", "ready", "busy", "draining", "stopping", "failed", "isolated",
]);

export class Strips {
  private marks = new Map<string, Mark[]>();

  see(models: Model[], now: number): void {
    const names = new Set(models.map((model) => model.name));
    for (const name of this.marks.keys()) if (!names.has(name)) this.marks.delete(name);
    for (const model of models) this.mark(model.name, { at: now, state: stateOf(model), reason: reasonIn(model) });
  }

  lose(now: number): void {
    for (const name of this.marks.keys()) this.mark(name, { at: now, state: null, reason: "" });
  }

  /** Of the time before the first mark, and of gaps, the gateway knows more. */
  remember(past: Record<string, Change[]>): void {
    for (const [name, changes] of Object.entries(past)) {
      const told = changes.flatMap((change): Mark[] => STATES.has(change.state)
        ? [{ at: change.at * 1000, state: change.state as ModelState, reason: change.reason ?? "" }]
        : []);
      const seen = this.marks.get(name) ?? [];
      const last = seen.findLastIndex((mark) => mark.state === null);
      const kept = last < 0 ? seen : seen.slice(last + 1);
      const first = kept[0]?.at ?? Infinity;
      this.marks.set(name, [...told.filter((mark) => mark.at < first), ...kept].slice(-KEPT));
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

  private mark(name: string, mark: Mark): void {
    const marks = this.marks.get(name) ?? [];
    this.marks.set(name, marks);
    const last = marks.at(-1);
    if (last && last.state === mark.state) {
      if (mark.reason) last.reason = mark.reason;
      return;
    }
    marks.push(mark);
    if (marks.length > KEPT) marks.shift();
  }
}
