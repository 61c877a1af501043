import { describe, expect, it } from "vitest";
import { Samples, sampleOf, speed } from "../src/live/samples";
import { aSystem } from "./made";

const sample = (requests: number) => sampleOf(aSystem({ per_minute: { requests, tokens: 0 } }));

it("shows what is younger than its span", () => {
  const samples = new Samples();
  for (const at of [10, 20, 30, 30, 25]) samples.add(at, sample(at));
  expect(samples.columns(["requests"], 10)).toEqual([[20, 30], [20, 30]]);
});

it("takes older ones before all others, and none twice", () => {
  const samples = new Samples();
  samples.add(100, sample(1));
  for (let twice = 0; twice < 2; twice++) samples.fill([{ at: 90, sample: sample(2) }, { at: 110, sample: sample(3) }]);
  expect(samples.columns(["requests"], 100)).toEqual([[90, 100], [2, 1]]);
});

it("draws nothing over a time that nobody saw, until the gateway tells of it", () => {
  const samples = new Samples();
  for (const at of [100, 110, 160, 170]) samples.add(at, sample(1));
  expect(samples.columns(["requests"], 100)).toEqual([[100, 110, 135, 160, 170], [1, 1, null, 1, 1]]);
  samples.fill([105, 120, 130, 140, 150, 165, 180].map((at) => ({ at, sample: sample(2) })));
  expect(samples.columns(["requests"], 100)).toEqual([[100, 110, 120, 130, 140, 150, 160, 170], [1, 1, 2, 2, 2, 2, 1, 1]]);
});

it("is empty columns where there is nothing", () => expect(new Samples().columns(["cpu", "gpu"], 9)).toEqual([[], [], []]));

it("does not grow without end", () => {
  const samples = new Samples();
  for (let at = 0; at < 2000; at++) samples.add(at, sample(at));
  expect(samples.columns(["requests"], 1e9)[0]).toHaveLength(1800);
});

describe("the speed of all engines", () => {
  const engine = (metrics: Record<string, number>, error: string | null = null) => ({ error, age: 0, metrics });
  it("is their sum", () => expect(speed(aSystem({ engines: { a: engine({ x: 1.5 }), b: engine({ x: 2 }) } }), "x")).toBe(3.5));
  it("is nothing where no model runs", () => expect(speed(aSystem(), "x")).toBe(0));
  it("is not known where engines do not tell", () => {
    expect(speed(aSystem({ engines: { a: engine({}, "no answer") } }), "x")).toBeNull();
    expect(speed(aSystem({ models: { ready: 1 } }), "x")).toBeNull();
  });
});

it("takes the speed of generation from answers on their way, not from engines", () => {
  const engines = { a: { error: null, age: 0, metrics: { predicted_tokens_per_second: 0 } } };
  expect(sampleOf(aSystem({ engines, generation_per_second: 42.5 })).generation).toBe(42.5);
});
