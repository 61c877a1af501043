/**
 * The last minutes of what the charts show.
 *
 * Owns samples of the metrics topic, as many as fit; a chart reads columns. Pure.
 */

import type { System } from "../types";
import { holed } from "./holes";

export const COLUMNS = [
  "generation", "requests", "tokens", "in_flight", "queued", "cpu", "memory", "gpu", "gpu_memory",
] as const;

export type Column = (typeof COLUMNS)[number];
export type Sample = Record<Column, number | null>;

const KEPT = 1800;
/** Seconds without a sample that nobody saw: the gateway keeps one for every ten, and the page may be that slow. */
export const HOLE = 25;

export class Samples {
  private times: number[] = [];
  private rows: Sample[] = [];

  add(at: number, sample: Sample): void {
    const last = this.times.at(-1);
    if (last !== undefined && at <= last) return;
    this.times.push(at);
    this.rows.push(sample);
    if (this.times.length > KEPT) {
      this.times.splice(0, this.times.length - KEPT);
      this.rows.splice(0, this.rows.length - KEPT);
    }
  }

  /** What the gateway has of the time before, and of holes; of all others those that are there know more. */
  fill(past: { at: number; sample: Sample }[]): void {
    const isHole = (index: number): boolean => index === 0 || (this.times[index] ?? Infinity) - (this.times[index - 1] ?? 0) > HOLE;
    const last = this.times.at(-1) ?? Infinity;
    const fitting = past.filter(({ at }) => at < last && !this.times.includes(at) && isHole(this.times.findIndex((time) => time > at)));
    const known = this.rows.map((sample, index) => ({ at: this.times[index] ?? 0, sample }));
    const kept = [...fitting, ...known].sort((a, b) => a.at - b.at).slice(-KEPT);
    this.times = kept.map(({ at }) => at);
    this.rows = kept.map(({ sample }) => sample);
  }

  /** Seconds since the epoch, then the columns; only what is younger than `span` seconds. No line goes over a hole. */
  columns(names: readonly Column[], span: number): (number | null)[][] {
    const end = this.times.at(-1) ?? 0;
    const from = this.times.findIndex((at) => at >= end - span);
    if (from < 0) return [[], ...names.map(() => [])];
    const rows = this.rows.slice(from);
    return holed([this.times.slice(from), ...names.map((name) => rows.map((row) => row[name]))], HOLE);
  }

  latest(): Sample | null {
    return this.rows.at(-1) ?? null;
  }
}

export function sampleOf(system: System): Sample {
  const { host, gpus } = system;
  return {
    generation: system.generation_per_second,
    requests: system.per_minute.requests,
    tokens: system.per_minute.tokens,
    in_flight: system.requests.in_flight,
    queued: system.requests.queued,
    cpu: host?.cpu_percent ?? null,
    memory: host ? (100 * host.memory_used) / host.memory_total : null,
    gpu: mean(gpus.map((gpu) => gpu.utilization)),
    gpu_memory: share(gpus.map((gpu) => gpu.memory_used), gpus.map((gpu) => gpu.memory_total)),
  };
}

/** Over all engines that tell; null where engines run and none does. */
export function speed(system: System, metric: string): number | null {
  const engines = Object.values(system.engines);
  const told = engines.map((engine) => engine.metrics[metric]).filter((value) => value !== undefined);
  if (told.length) return told.reduce((sum, value) => sum + value, 0);
  return engines.length || (system.models.ready ?? 0) > 0 ? null : 0;
}

function mean(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

function share(used: (number | null)[], total: (number | null)[]): number | null {
  const all = sum(total);
  return all ? (100 * (sum(used) ?? 0)) / all : null;
}

export function sum(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((total, value) => total + value, 0) : null;
}
