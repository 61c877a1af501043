/**
 * The gateway's account of what happened to a model, as the states that the page shows.
 *
 * Its process and its circuit breaker are told apart there and are one line here. Pure.
 */

import { took } from "../format";
import type { ModelState } from "../states";
import type { ModelEvent } from "../types";

export interface Told {
  /** Milliseconds since the epoch. */
  at: number;
  state: ModelState;
  reason: string;
}

const PROCESS: Record<string, ModelState> = {
  stopped: "stopped", starting: "starting", ready: "ready", draining: "draining", stopping: "stopping", crashed: "failed",
};
const BREAKER = "breaker_";
/** A breaker opens right after the failure that opens it. */
const AT_ONCE_MS = 100;

/** The states of the model of this name, oldest first. */
export function told(events: readonly ModelEvent[], name: string): Told[] {
  const marks: Told[] = [];
  let process: Told = { at: 0, state: "stopped", reason: "" };
  let isOpen = false;
  for (const event of events) {
    const at = event.at * 1000;
    if (event.state.startsWith(BREAKER)) {
      isOpen = event.state === `${BREAKER}open`;
      if (event.state === `${BREAKER}closed` && process.state === "failed") process = { at, state: "stopped", reason: "" };
    } else {
      const state = PROCESS[event.state];
      if (!state) continue;
      process = { at, state, reason: reasonOf(event, name, marks.at(-1)) };
    }
    const rests = process.state === "stopped" || process.state === "failed";
    const next: Told = isOpen && rests ? { at, state: "isolated", reason: process.reason } : { ...process, at };
    const last = marks.at(-1);
    if (next.state === "isolated" && last?.state === "failed" && at - last.at < AT_ONCE_MS) marks[marks.length - 1] = next;
    else if (last?.state !== next.state || event.state === "crashed") marks.push(next);
  }
  return marks;
}

/** Why a process went is said when it begins to go; that it is gone has the same reason. */
function reasonOf(event: ModelEvent, name: string, before: Told | undefined): string {
  if (event.state === "crashed" && event.detail) return event.detail.replace(`${name}: `, "");
  if (event.state === "stopped" && before && (before.state === "stopping" || before.state === "draining")) return before.reason;
  if (event.state === "ready" && event.seconds !== null && event.reason !== "resumed") return `loaded in ${took(event.seconds)}`;
  return event.text === event.state ? "" : event.text.replace(`${event.state}: `, "");
}
