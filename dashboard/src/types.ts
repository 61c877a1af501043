/** What the gateway's API says, as far as the page reads it. `undefined` fields come with newer gateways. */

export type BackendState = "stopped" | "starting" | "ready" | "draining" | "stopping";
export type BreakerState = "closed" | "open" | "half_open";
export type StopReason =
  | "evicted" | "fairness" | "ttl" | "requested" | "over_limit" | "unhealthy" | "reloaded" | "shutdown";

export interface Model {
  name: string;
  aliases: string[];
  description: string;
  source: string;
  kind: string;
  path: string | null;
  url: string | null;
  endpoint: string;
  state: BackendState;
  pid: number | null;
  uptime: number | null;
  in_flight: number;
  queued: number;
  pinned: boolean;
  starts: number;
  load_seconds: number | null;
  footprint: { ram: number; devices: number[]; measured: boolean } | null;
  breaker: { state: BreakerState; reason: string };
  last_failure: { reason: string; output: string | null } | null;
  leaving: StopReason | null;
  /** The model it leaves for. */
  successor?: string | null;
  /** Seconds since a start began that is not over. */
  starting_for?: number | null;
  /** Seconds until an open breaker lets a request try. */
  retry_in?: number | null;
  size?: number | null;
  quantisation?: string | null;
  context?: number | null;
  idle?: number | null;
  latency_ms?: number | null;
  version?: string | null;
  log?: string | null;
  ttl?: number | null;
  /** When this was told, in milliseconds since the epoch by the page's clock: uptime and idle grow by themselves. */
  told?: number;
}

export interface ModelDetails extends Model {
  config: Record<string, unknown>;
  origins: Record<string, unknown>;
  /** Which of the settings may be changed here. */
  editable?: Record<string, boolean>;
}

/** Something that happened to a model; `at` in seconds since the epoch. */
export interface ModelEvent {
  at: number;
  spawn: number;
  state: string;
  reason: string | null;
  detail: string | null;
  seconds: number | null;
  text: string;
}

export interface ModelPast {
  from: number;
  to: number;
  models: Record<string, ModelEvent[]>;
}

export interface Usage {
  model: string | null;
  requests: number;
  ok: number;
  client_abort: number;
  upstream_error: number;
  rejected: number;
  truncated: number;
  [measure: string]: number | string | null;
}

export interface Body {
  bytes: number;
  omitted: number;
  first: string;
  last: string | null;
}

export interface Capture {
  request: Body;
  response: Body;
}

export interface Gpu {
  index: number;
  vendor: string;
  name: string;
  utilization: number | null;
  memory_used: number | null;
  memory_total: number | null;
  temperature: number | null;
  power: number | null;
  power_limit?: number | null;
  clock?: number | null;
  memory_clock?: number | null;
  fan?: number | null;
}

export interface EngineNow {
  error: string | null;
  age: number;
  metrics: Record<string, number>;
}

export interface System {
  time: number;
  version: string;
  uptime: number;
  os: Record<string, unknown>;
  host: {
    cpu_percent: number | null;
    cores: number[];
    load: [number, number, number];
    memory_total: number;
    memory_used: number;
    memory_available: number;
    swap_total?: number;
    swap_used?: number;
    received_rate: number | null;
    sent_rate: number | null;
    process?: {
      memory: number;
      cpu_percent: number | null;
      cpu_seconds: number;
      threads: number;
      descriptors: number | null;
    };
    [more: string]: unknown;
  } | null;
  disk: { path: string; total: number; used: number; free: number } | null;
  gpus: Gpu[];
  reasons: Record<string, string>;
  models: Partial<Record<BackendState, number>>;
  requests: { in_flight: number; queued: number };
  per_minute: { requests: number; tokens: number };
  /** Tokens of all answers, in flight and ended, between the gateway's last two looks. */
  generation_per_second: number | null;
  engines: Record<string, EngineNow>;
}

export type RequestState = "in_flight" | "ok" | "client_abort" | "upstream_error" | "rejected" | "truncated";
export type Phase = "queued" | "loading" | "prompt" | "generating";

export interface RequestRow {
  id: string;
  endpoint: string;
  dialect: string;
  client: string;
  started_at: number;
  model: string | null;
  key: string | null;
  backend: string | null;
  stream: boolean;
  status: number | null;
  state: RequestState;
  prompt_tokens: number | null;
  cached_tokens: number | null;
  completion_tokens: number | null;
  queue_ms: number | null;
  load_ms: number | null;
  ttfb_ms: number | null;
  duration_ms: number | null;
  prompt_tps: number | null;
  generation_tps: number | null;
  bytes_in: number;
  bytes_out: number;
  replays: number;
  /** The code of the gateway's own error. */
  error: string | null;
  phase?: Phase;
  /** As in a model: of a request in flight, when its duration was told. */
  told?: number;
}

export interface RequestPage {
  totals: Record<string, number>;
  requests: RequestRow[];
  next: string | null;
}

export type LogLevel = "debug" | "info" | "warning" | "error";

/** `id` is its place in the order of lines; `timestamp` in seconds; `context` is a traceback. */
export interface LogEntry {
  id: number;
  timestamp: number;
  level: LogLevel;
  /** A part of the gateway, or "engine". */
  source: string;
  model: string | null;
  request_id: string | null;
  message: string;
  context: string | null;
}

export interface LogPage {
  logs: LogEntry[];
  next: number | null;
}
