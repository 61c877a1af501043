/**
 * What each topic holds: how its snapshot is read, how a change is applied, and where REST has the same.
 *
 * Pure but for the addresses. A new topic is one entry here.
 */

import type { LogEntry, LogPage, Model, RequestPage, RequestRow, System } from "../types";

export interface Requests {
  in_flight: RequestRow[];
  total: number;
  finished: RequestRow[];
}

export interface Logs {
  entries: LogEntry[];
  dropped: number;
}

export interface Topics {
  models: Model[];
  metrics: System;
  requests: Requests;
  logs: Logs;
  config: { changes: number };
}

export type TopicName = keyof Topics;

interface Topic<T> {
  snapshot(data: unknown): T;
  /** The new value; the old one where the event is none of this topic's. */
  apply(value: T, event: string, data: unknown): T;
  /** Asked every two seconds while there is no WebSocket; null: this topic needs one. */
  rest: { path: string; read(data: unknown): T } | null;
}

const FINISHED_KEPT = 200;
const LOGS_KEPT = 5000;

/** With the time of their arrival: what grows by itself is not told again. */
function received(data: unknown): Model[] {
  const told = Date.now();
  return ((data as { models?: Model[] }).models ?? []).map((model) => ({ ...model, told }));
}

const running = (rows: RequestRow[]): RequestRow[] => rows.map((row) => ({ ...row, told: Date.now() }));

const models: Topic<Model[]> = {
  snapshot: received,
  apply(value, event, data) {
    if (event === "models:deleted") {
      const gone = new Set((data as { names: string[] }).names);
      return value.filter((model) => !gone.has(model.name));
    }
    const changed = new Map(received(data).map((model) => [model.name, model]));
    const known = value.map((model) => take(changed, model.name) ?? model);
    return [...known, ...changed.values()];
  },
  rest: { path: "api/models", read: received },
};

const metrics: Topic<System> = {
  snapshot: (data) => data as System,
  apply: (value, event, data) => (event === "metrics:update" ? (data as System) : value),
  rest: { path: "api/system", read: (data) => data as System },
};

const requests: Topic<Requests> = {
  snapshot(data) {
    const { in_flight, finished, total } = data as Partial<Requests>;
    return { in_flight: running(in_flight ?? []), finished: finished ?? [], total: total ?? in_flight?.length ?? 0 };
  },
  apply(value, event, data) {
    if (event !== "requests:update") return value;
    const { in_flight, finished = [], total } = data as Partial<Requests>;
    const now = in_flight ? running(in_flight) : value.in_flight;
    const ended = [...finished].sort((a, b) => b.started_at - a.started_at);
    return {
      in_flight: now,
      total: total ?? now.length,
      finished: [...ended, ...value.finished].slice(0, FINISHED_KEPT),
    };
  },
  rest: {
    path: "api/requests?limit=50",
    read(data) {
      const { requests: rows, totals } = data as RequestPage;
      const now = running(rows.filter((row) => row.state === "in_flight"));
      const finished = rows.filter((row) => row.state !== "in_flight");
      return { in_flight: now, finished, total: totals.in_flight ?? now.length };
    },
  },
};

const logs: Topic<Logs> = {
  snapshot: (data) => ({ entries: (data as { entries: LogEntry[] }).entries, dropped: 0 }),
  apply(value, event, data) {
    if (event === "logs:cleared") return { entries: [], dropped: 0 };
    if (event !== "logs:entry") return value;
    const { entries, dropped = 0 } = data as { entries: LogEntry[]; dropped?: number };
    return { entries: [...value.entries, ...entries].slice(-LOGS_KEPT), dropped: value.dropped + dropped };
  },
  rest: {
    path: "api/logs?limit=200",
    read: (data) => ({ entries: (data as LogPage).logs.toReversed(), dropped: 0 }),
  },
};

const config: Topic<{ changes: number }> = {
  snapshot: () => ({ changes: 0 }),
  apply: (value) => ({ changes: value.changes + 1 }),
  rest: null,
};

export const TOPICS: { [Name in TopicName]: Topic<Topics[Name]> } = { models, metrics, requests, logs, config };

function take<K, V>(map: Map<K, V>, key: K): V | undefined {
  const value = map.get(key);
  map.delete(key);
  return value;
}
