import { mount } from "@vue/test-utils";
import { expect, it } from "vitest";
import { Strips } from "../src/live/strips";
import ModelStrips from "../src/pages/dashboard/ModelStrips.vue";
import { aModel, anEvent } from "./made";

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
  strips.remember({ qwen: [anEvent({ at: 5, state: "ready" }), anEvent({ at: 40, text: "stopped: evicted for llama" })] });
  expect(seen(strips, 0, 60_000)).toEqual([["ready", 5000, 40_000], ["stopped", 40_000, 50_000], ["stopped", 50_000, 60_000]]);
  expect(strips.segments("qwen", 0, 60_000)[1]?.reason).toBe("evicted for llama");
});

it("forgets models that are gone", () => {
  const strips = new Strips();
  strips.see([aModel()], 1);
  strips.see([], 2);
  expect(seen(strips)).toEqual([]);
});

it("hears of the grounds when a model has left", () => {
  const strips = new Strips();
  expect(strips.see([aModel({ state: "ready" })], 1000)).toBe(false);
  expect(strips.see([aModel({ state: "stopping", leaving: "evicted", successor: "llama" })], 2000)).toBe(true);
  expect(strips.see([aModel()], 3000)).toBe(true);
  expect(strips.see([aModel()], 4000)).toBe(false);
  expect(strips.segments("qwen", 0, 5000).at(-1)?.reason).toBe("evicted to make room for llama");
  const text = "evicted for llama: least recently used";
  strips.remember({ qwen: [anEvent({ at: 2.1, state: "stopping", text }), anEvent({ at: 3.2 })] });
  expect(strips.segments("qwen", 0, 5000).map(({ state, reason }) => [state, reason])).toEqual([
    ["ready", ""], ["stopping", text], ["stopped", text],
  ]);
});

it("does not keep how far a start had come", () => {
  const strips = new Strips();
  strips.see([aModel({ state: "starting", starting_for: 1 })], 1000);
  expect(strips.segments("qwen", 0, 2000)[0]?.reason).toBe("");
});

it("shows what was just seen at once, though the clock of the page ticks once a second", async () => {
  const strips = new Strips();
  const models = [aModel({ state: "ready" })];
  const page = mount(ModelStrips, { props: { models, strips, changed: 0, now: Date.now() - 900, span: 300 } });
  expect(page.findAll("rect.ready")).toHaveLength(1); // of the legend
  strips.see(models, Date.now() - 400);
  await page.setProps({ changed: 1 });
  expect(page.findAll("rect.ready")).toHaveLength(2);
});
