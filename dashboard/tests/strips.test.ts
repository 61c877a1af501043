import { expect, it } from "vitest";
import { Strips } from "../src/live/strips";
import { aModel } from "./made";

const seen = (strips: Strips, from = 0, to = 100): [string, number, number][] =>
  strips.segments("qwen", from, to).map((segment) => [segment.state, segment.from, segment.to]);

it("is a segment for each state", () => {
  const strips = new Strips();
  strips.see([aModel()], 10);
  strips.see([aModel({ state: "starting" })], 20);
  strips.see([aModel({ state: "starting" })], 25);
  strips.see([aModel({ state: "ready" })], 30);
  expect(seen(strips)).toEqual([["stopped", 10, 20], ["starting", 20, 30], ["ready", 30, 100]]);
});

it("is cut to what is shown", () => {
  const strips = new Strips();
  strips.see([aModel()], 10);
  strips.see([aModel({ state: "ready" })], 50);
  expect(seen(strips, 60, 80)).toEqual([["ready", 60, 80]]);
});

it("has a gap where nobody looked", () => {
  const strips = new Strips();
  strips.see([aModel({ state: "ready" })], 10);
  strips.lose(20);
  strips.see([aModel({ state: "ready" })], 40);
  expect(seen(strips)).toEqual([["ready", 10, 20], ["ready", 40, 100]]);
});

it("begins with what the gateway remembers, which fills gaps", () => {
  const strips = new Strips();
  strips.see([aModel({ state: "ready" })], 20_000);
  strips.lose(30_000);
  strips.see([aModel()], 50_000);
  strips.remember({ qwen: [{ at: 5, state: "ready" }, { at: 40, state: "stopped", reason: "evicted for llama" }, { at: 41, state: "odd" }] });
  expect(seen(strips, 0, 60_000)).toEqual([["ready", 5000, 40_000], ["stopped", 40_000, 50_000], ["stopped", 50_000, 60_000]]);
  expect(strips.segments("qwen", 0, 60_000)[1]?.reason).toBe("evicted for llama");
});

it("forgets models that are gone", () => {
  const strips = new Strips();
  strips.see([aModel()], 1);
  strips.see([], 2);
  expect(seen(strips)).toEqual([]);
});
