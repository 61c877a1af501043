/** A model and a request as the gateway tells them; tests name what matters to them. */

import type { Model, ModelEvent, RequestRow, System, Usage } from "../src/types";

export function aModel(given: Partial<Model> = {}): Model {
  return {
    name: "qwen", aliases: [], description: "", source: "configured", kind: "path", path: "/m/q.gguf", url: null,
    endpoint: "/upstream/qwen/v1", state: "stopped", pid: null, uptime: null, in_flight: 0, queued: 0, pinned: false,
    starts: 0, load_seconds: null, footprint: null, breaker: { state: "closed", reason: "" }, last_failure: null,
    leaving: null, ...given,
  };
}

export function aRequest(given: Partial<RequestRow> = {}): RequestRow {
  return {
    id: "r1", endpoint: "chat/completions", dialect: "openai", client: "127.0.0.1", started_at: 1000, model: "qwen",
    key: null, backend: "qwen#1", stream: true, status: 200, state: "ok", prompt_tokens: 10, cached_tokens: 0,
    completion_tokens: 20, queue_ms: 0, load_ms: 0, ttfb_ms: 100, duration_ms: 1000, prompt_tps: 100,
    generation_tps: 20, bytes_in: 1, bytes_out: 2, replays: 0, error: null, ...given,
  };
}

export function aSystem(given: Partial<System> = {}): System {
  return {
    time: 1000, version: "1.0.0", uptime: 5, os: {}, host: null, disk: null, gpus: [], reasons: {}, models: {},
    requests: { in_flight: 0, queued: 0 }, per_minute: { requests: 0, tokens: 0 }, generation_per_second: null, engines: {}, ...given,
  };
}

export function anEvent(given: Partial<ModelEvent> = {}): ModelEvent {
  const state = given.state ?? "stopped";
  return { at: 0, spawn: 1, state, reason: null, detail: null, seconds: null, text: state, ...given };
}

export function aUsage(given: Partial<Usage> = {}): Usage {
  return { model: "qwen", requests: 1, ok: 0, client_abort: 0, upstream_error: 0, rejected: 0, truncated: 0, ...given };
}
