/**
 * The machine over a range of time: what the gateway remembers, and what is told while the page is open.
 *
 * Columns of equal length. What is told goes into the last step until that is over, so that a page which is left open
 * for a week has no more points than one that was just opened. Pure.
 */

import { holed } from "../../live/holes";
import type { System } from "../../types";

export const RANGES = {
  "5m": { label: "5 min", span: 300, step: 2, hole: 25, asked: "1h" },
  "1h": { label: "1 h", span: 3600, step: 10, hole: 25, asked: "1h" },
  "24h": { label: "24 h", span: 86_400, step: 60, hole: 150, asked: "24h" },
  "7d": { label: "7 d", span: 604_800, step: 600, hole: 1500, asked: "7d" },
} as const;

export type RangeName = keyof typeof RANGES;

/** Names as the gateway has them in `/api/system/history`. */
export const NAMES = [
  "cpu_percent", "load", "memory_used", "memory_total", "swap_used", "disk_used", "disk_total", "received_rate",
  "sent_rate", "gpu_percent", "gpu_memory_used", "gpu_memory_total", "gpu_temperature", "gpu_power",
] as const;

export type Name = (typeof NAMES)[number];
type Value = number | null;
type Point = Record<Name, Value>;

export interface History {
  step: number;
  columns: Record<string, Value[]>;
}

export class Past {
  private times: number[] = [];
  private points: Point[] = [];
  private latest = 0;

  constructor(readonly range: RangeName) {}

  /** What the gateway remembers goes before what was told here. */
  load(history: History): void {
    const { columns } = history;
    const times = columns.timestamp ?? [];
    const first = this.times[0] ?? Infinity;
    const at = times.flatMap((time, index) => (time !== null && time < first ? [index] : []));
    this.times = [...at.map((index) => times[index]!), ...this.times];
    this.points = [...at.map((index) => pointOf((name) => columns[name]?.[index] ?? null)), ...this.points];
    this.shorten();
  }

  add(system: System): void {
    if (system.time <= this.latest) return;
    this.latest = system.time;
    const { step } = RANGES[this.range];
    const last = this.times.at(-1);
    const isSameStep = last !== undefined && Math.floor(last / step) === Math.floor(system.time / step);
    if (isSameStep) this.points[this.points.length - 1] = told(system);
    else {
      this.times.push(system.time);
      this.points.push(told(system));
    }
    this.shorten();
  }

  column(name: Name): Value[] {
    return this.points.map((point) => point[name]);
  }

  /** In percent. */
  share(used: Name, total: Name): Value[] {
    return this.points.map((point) => percentOf(point[used], point[total]));
  }

  /** For a chart: seconds since the epoch, then the columns. The gateway has no steps of the time when it did not run. */
  with(...columns: Value[][]): Value[][] {
    return holed([[...this.times], ...columns], RANGES[this.range].hole);
  }

  private shorten(): void {
    const from = (this.times.at(-1) ?? 0) - RANGES[this.range].span;
    const first = this.times.findIndex((time) => time >= from);
    if (first <= 0) return;
    this.times.splice(0, first);
    this.points.splice(0, first);
  }
}

export const percentOf = (used: Value | undefined, total: Value | undefined): Value =>
  used !== null && used !== undefined && total ? (100 * used) / total : null;

/** As the gateway makes a sample of it: of several GPUs the mean use, the highest temperature, and sums. */
function told({ host, disk, gpus }: System): Point {
  const all = (pick: (gpu: System["gpus"][number]) => Value): number[] => gpus.map(pick).filter((value) => value !== null);
  const total = (values: number[]): Value => (values.length ? values.reduce((sum, value) => sum + value, 0) : null);
  const mean = (values: number[]): Value => (values.length ? total(values)! / values.length : null);
  const hottest = all((gpu) => gpu.temperature);
  return {
    cpu_percent: host?.cpu_percent ?? null,
    load: host?.load[0] ?? null,
    memory_used: host?.memory_used ?? null,
    memory_total: host?.memory_total ?? null,
    swap_used: host?.swap_used ?? null,
    disk_used: disk?.used ?? null,
    disk_total: disk?.total ?? null,
    received_rate: host?.received_rate ?? null,
    sent_rate: host?.sent_rate ?? null,
    gpu_percent: mean(all((gpu) => gpu.utilization)),
    gpu_memory_used: total(all((gpu) => gpu.memory_used)),
    gpu_memory_total: total(all((gpu) => gpu.memory_total)),
    gpu_temperature: hottest.length ? Math.max(...hottest) : null,
    gpu_power: total(all((gpu) => gpu.power)),
  };
}

function pointOf(value: (name: Name) => Value): Point {
  return Object.fromEntries(NAMES.map((name) => [name, value(name)])) as Point;
}
