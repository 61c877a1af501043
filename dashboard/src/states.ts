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
  evicted: "evicted: another model needs the room",
  fairness: "makes room: requests for another model have waited too long",
  ttl: "stopped by itself: nobody used it for its idle time",
  requested: "stopped by a person",
  over_limit: "stopped: more models ran than are allowed",
  unhealthy: "stopped: it did not answer any more",
  reloaded: "restarts: its configuration has changed",
  shutdown: "the gateway shuts down",
};

export function leavingWords(reason: string | null | undefined, successor?: string | null): string {
  if (successor && reason === "evicted") return `evicted to make room for ${successor}`;
  if (successor && reason === "fairness") return `makes room for ${successor}, which has waited too long`;
  return reason ? (LEAVING[reason as StopReason] ?? reason) : "";
}

/** Seconds since it was told how it is. */
export const since = (model: Model, now: number): number => Math.max(0, now - (model.told ?? now)) / 1000;

/** How far a start has come, in percent by how long the ones before took; null where there was none. */
export function progress(model: Model, now: number): number | null {
  if (model.state !== "starting" || !model.load_seconds || typeof model.starting_for !== "number") return null;
  return Math.min(99, (100 * (model.starting_for + since(model, now))) / model.load_seconds);
}

export function loadingWords(model: Model, now: number): string {
  const elapsed = typeof model.starting_for === "number" ? model.starting_for + since(model, now) : null;
  if (elapsed === null) return "loading";
  if (!model.load_seconds) return `loading for ${duration(elapsed)}; how long it takes is not known yet`;
  const left = model.load_seconds - elapsed;
  return left > 0 ? `loading, about ${duration(Math.ceil(left))} left` : `loading for ${duration(elapsed)}, longer than before`;
}

/** What requests for a model wait for. */
export function waitingWords(model: Model, models: readonly Model[], now: number): string {
  if (model.state === "starting") return loadingWords(model, now);
  if (model.state === "draining" || model.state === "stopping") return "its old process has to end first";
  if (model.state === "ready") return `all its places are taken: ${plural(model.in_flight, "request")} in flight`;
  const leavers = models.filter((other) => other.successor === model.name);
  const drains = leavers.find((other) => other.state === "draining");
  if (drains) return `${drains.name} ends ${plural(drains.in_flight, "request")} first, then makes room`;
  if (leavers[0]) return `${leavers[0].name} is stopping to make room`;
  const others = models.filter((other) => other.state !== "stopped").map((other) => other.name);
  return others.length ? `room: it is taken by ${others.join(", ")}` : "its turn to start";
}

/** Without the model's name in front, where that stands beside it anyway. */
export function withoutName(model: Model, words: string): string {
  return words.startsWith(`${model.name}: `) ? words.slice(model.name.length + 2) : words;
}

/** One plain sentence about why the model is as it is. */
export function reasonIn(model: Model): string {
  const state = stateOf(model);
  if (model.leaving) return leavingWords(model.leaving, model.successor);
  if (state === "isolated" || state === "failed") return withoutName(model, model.breaker.reason || model.last_failure?.reason || "");
  if (state === "queued") return `${plural(model.queued, "request")} waiting for room`;
  if (state === "busy") return `${plural(model.in_flight, "request")} in flight`;
  if (state === "starting") return loadingWords(model, Date.now());
  return "";
}

export function breakerWords(model: Model, now = Date.now()): string {
  const { state, reason } = model.breaker;
  if (state === "open") {
    const left = typeof model.retry_in === "number" ? model.retry_in - since(model, now) : null;
    const next = left === null ? "until it is tried again" : left > 0 ? `for ${duration(Math.ceil(left))} more` : "until the next one tries it";
    return `It failed again and again: requests are refused at once ${next}.`;
  }
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

const STATUS_WORDS: Record<number, string> = {
  400: "the request was not valid", 401: "no valid key", 403: "the key may not do this", 404: "no such model or address",
  408: "the client was too slow", 413: "too large", 429: "too many requests at once", 499: "cancelled by an operator",
  502: "the engine's answer was broken", 503: "the model could not be used", 504: "the engine was too slow",
};

/** Of codes that say more than their status. */
const ERROR_WORDS: Record<string, string> = {
  model_not_allowed: "the key may not use this model", queue_full: "the queue was full",
  rate_limit_exceeded: "more than the key may take", request_crashed_backend: "its engine crashed each time",
  engine_missing: "there is no engine", model_start_failed: "the engine could not be started",
  model_out_of_memory: "too little memory for the model", model_unavailable: "the model is stopped, or failed too often",
  queue_timeout: "no room for the model in time", shutting_down: "the gateway was going down",
  load_timeout: "the model did not load in time", upstream_stalled: "the engine fell silent",
};

/** Why a request did not end well, as far as its row tells. */
export function endWords(row: RequestRow): string {
  const why = ERROR_WORDS[row.error ?? ""];
  if (row.state === "rejected" && row.status !== null && row.status < 400) return "cancelled by an operator under way";
  if (row.state === "client_abort") return "the client left before the end";
  if (row.state === "truncated") return why ? `the answer broke off: ${why}` : "the answer broke off";
  if (row.status === null || row.status < 400) return "";
  return `${row.status}: ${why ?? STATUS_WORDS[row.status] ?? (row.status < 500 ? "refused" : "failed")}`;
}

/** An answer that comes in one piece does not tell when its prompt was read. */
const WHOLE_LOOK: Look = { tone: "busy", icon: "pulse", label: "At work" };

export function requestLook(row: RequestRow): Look {
  if (row.state === "in_flight" && row.phase === "prompt" && !row.stream) return WHOLE_LOOK;
  return row.state === "in_flight" && row.phase ? PHASE_LOOKS[row.phase] : REQUEST_LOOKS[row.state];
}

/** The parts of a request's time, one after the other, in milliseconds. */
export interface Part {
  name: "queued" | "loading" | "prompt" | "generation";
  ms: number;
}

/** How long a request has been in flight, in milliseconds. Its beginning is of the gateway's clock, `now` of the page's. */
export function elapsed(row: RequestRow, now: number): number {
  if (row.duration_ms === null) return Math.max(0, now - row.started_at * 1000);
  return row.duration_ms + Math.max(0, now - (row.told ?? now));
}

/**
 * Queue and load are measured by the gateway, and grow here until it tells them again; the rest up to the first byte is the prompt, and what follows generation.
 * A request that is not streamed has its first byte at the end: its speeds tell how the two share the time.
 */
export function timeline(row: RequestRow, now = Date.now()): Part[] {
  const total = row.state === "in_flight" || row.duration_ms === null ? elapsed(row, now) : row.duration_ms;
  const since = row.state === "in_flight" && row.duration_ms !== null ? total - row.duration_ms : 0;
  const queued = Math.min(total, (row.queue_ms ?? 0) + (row.phase === "queued" ? since : 0));
  const loading = Math.min(total - queued, (row.load_ms ?? 0) + (row.phase === "loading" ? since : 0));
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
