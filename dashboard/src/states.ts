/** The states of models and requests in words, icons and tones. Pure; the only place that decides how a state looks. */

import type { IconName } from "./components/icons";
import { duration, plural } from "./format";
import type { Model, Phase, RequestRow, RequestState, StopReason } from "./types";

export type Tone = "good" | "warn" | "bad" | "busy" | "idle" | "accent";

export interface Look {
  tone: Tone;
  icon: IconName;
  label: string;
}

/** What a person wants to know of a model: its state, and what is the matter with it. */
export type ModelState =
  | "stopped" | "queued" | "starting" | "ready" | "busy" | "draining" | "stopping" | "failed" | "isolated";

export const LOOKS: Record<ModelState, Look> = {
  stopped: { tone: "idle", icon: "circle", label: "Stopped" },
  queued: { tone: "warn", icon: "clock", label: "Queued" },
  starting: { tone: "accent", icon: "half", label: "Starting" },
  ready: { tone: "good", icon: "dot", label: "Ready" },
  busy: { tone: "busy", icon: "pulse", label: "Busy" },
  draining: { tone: "warn", icon: "half", label: "Draining" },
  stopping: { tone: "idle", icon: "half", label: "Stopping" },
  failed: { tone: "bad", icon: "alert", label: "Failed" },
  isolated: { tone: "bad", icon: "alert", label: "Isolated" },
};

export function stateOf(model: Model): ModelState {
  if (model.state === "stopped") {
    if (model.breaker.state === "open") return "isolated";
    if (model.queued) return "queued";
    return model.last_failure?.reason ? "failed" : "stopped";
  }
  if (model.state === "ready" && model.in_flight) return "busy";
  return model.state;
}

/** Why a model leaves, or left. */
export const LEAVING: Record<StopReason, string> = {
  evicted: "evicted: another model needs the room, and this one was used least recently",
  fairness: "leaves in turn: requests for another model have waited too long",
  ttl: "stopped by itself: nobody used it for its idle time",
  requested: "stopped by a person",
  over_limit: "stopped: more models ran than are allowed",
  unhealthy: "stopped: it did not answer any more",
  reloaded: "restarts: its configuration has changed",
  shutdown: "the gateway shuts down",
};

export function leavingWords(reason: string | null | undefined): string {
  return reason ? (LEAVING[reason as StopReason] ?? reason) : "";
}

/** One plain sentence about why the model is as it is. */
export function reasonIn(model: Model): string {
  const state = stateOf(model);
  if (model.leaving) return leavingWords(model.leaving);
  if (state === "isolated" || state === "failed") return model.breaker.reason || model.last_failure?.reason || "";
  if (state === "queued") return `${plural(model.queued, "request")} waiting for room`;
  if (state === "busy") return `${plural(model.in_flight, "request")} in flight`;
  if (state === "starting") return model.load_seconds ? `takes about ${duration(model.load_seconds)}` : "loading";
  return "";
}

export function breakerWords(model: Model): string {
  const { state, reason } = model.breaker;
  if (state === "open") return `Isolated after repeated failures. Requests are refused at once until it is tried again.`;
  if (state === "half_open") return "The next request tries it; if that works, it is back.";
  return reason ? `In use again; the last failure was: ${reason}` : "No failure is known.";
}

export const REQUEST_LOOKS: Record<RequestState, Look> = {
  in_flight: { tone: "busy", icon: "pulse", label: "In flight" },
  ok: { tone: "good", icon: "check", label: "OK" },
  client_abort: { tone: "idle", icon: "cross", label: "Client left" },
  upstream_error: { tone: "bad", icon: "alert", label: "Engine error" },
  rejected: { tone: "warn", icon: "alert", label: "Rejected" },
  truncated: { tone: "bad", icon: "alert", label: "Cut off" },
};

export const PHASE_LOOKS: Record<Phase, Look> = {
  queued: { tone: "warn", icon: "clock", label: "Queued" },
  loading: { tone: "accent", icon: "half", label: "Loading" },
  prompt: { tone: "busy", icon: "pulse", label: "Reading prompt" },
  generating: { tone: "good", icon: "pulse", label: "Generating" },
};

export function requestLook(row: RequestRow): Look {
  return row.state === "in_flight" && row.phase ? PHASE_LOOKS[row.phase] : REQUEST_LOOKS[row.state];
}

/** The parts of a request's time, one after the other, in milliseconds. */
export interface Part {
  name: "queued" | "loading" | "prompt" | "generation";
  ms: number;
}

/**
 * Queue and load are measured by the gateway; the rest up to the first byte is the prompt, and what follows generation.
 * A request that is not streamed has its first byte at the end: its speeds tell how the two share the time.
 */
export function timeline(row: RequestRow, now = Date.now()): Part[] {
  const total = row.duration_ms ?? Math.max(0, now - row.started_at * 1000);
  const queued = Math.min(total, row.queue_ms ?? 0);
  const loading = Math.min(total - queued, row.load_ms ?? 0);
  const reached = row.state === "in_flight" || row.ttfb_ms !== null;
  const rest = reached ? total - queued - loading : 0; // a refusal read no prompt
  let generation = row.ttfb_ms === null ? 0 : Math.max(0, total - Math.max(row.ttfb_ms, queued + loading));
  if (!row.stream && row.generation_tps && row.completion_tokens) {
    generation = Math.min(rest, (1000 * row.completion_tokens) / row.generation_tps);
  }
  const parts: Part[] = [
    { name: "queued", ms: queued },
    { name: "loading", ms: loading },
    { name: "prompt", ms: rest - Math.min(rest, generation) },
    { name: "generation", ms: Math.min(rest, generation) },
  ];
  return parts.filter((part) => part.ms > 0);
}
