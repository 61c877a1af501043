/**
 * New lines on their way to the page: few at a time, however many come.
 *
 * A frame of the screen takes so many lines; more wait, and of those that wait the oldest are left out and counted.
 * A hidden tab has no frames: there they wait.
 */

import type { LogEntry } from "../../types";
import { KEPT } from "./lines";

export const AT_ONCE = 500;

type Frame = (work: () => void) => unknown;

export class Intake {
  private waiting: LogEntry[] = [];
  private dropped = 0;
  private planned = false;

  /** `take` gets lines, and how many were left out before them. */
  constructor(
    private readonly take: (entries: LogEntry[], dropped: number) => void,
    private readonly frame: Frame = (work) => requestAnimationFrame(work),
  ) {}

  put(entries: LogEntry[], dropped = 0): void {
    const all = this.waiting.length ? [...this.waiting, ...entries] : entries;
    this.waiting = all.slice(-KEPT);
    this.dropped += dropped + all.length - this.waiting.length;
    if (this.waiting.length || this.dropped) this.plan();
  }

  clear(): void {
    this.waiting = [];
    this.dropped = 0;
  }

  private plan(): void {
    if (this.planned) return;
    this.planned = true;
    this.frame(() => {
      this.planned = false;
      const [now, dropped] = [this.waiting.slice(0, AT_ONCE), this.dropped];
      this.waiting = this.waiting.slice(AT_ONCE);
      this.dropped = 0;
      if (now.length || dropped) this.take(now, dropped);
      if (this.waiting.length) this.plan();
    });
  }
}
