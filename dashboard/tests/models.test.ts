import { describe, expect, it } from "vitest";
import { erasure, idle, memory, room, settings, source, uptime } from "../src/pages/models/facts";
import { changes, fault, FIELDS, toValues } from "../src/pages/models/fields";
import { FILTERS, matches, ordered } from "../src/pages/models/order";
import { atStake } from "../src/pages/models/actions";
import { aModel, aSystem } from "./made";

it("lists loaded models first, then those in trouble", () => {
  const models = [
    aModel({ name: "m10" }), aModel({ name: "m9" }), aModel({ name: "bad", breaker: { state: "open", reason: "x" } }),
    aModel({ name: "waits", queued: 1 }), aModel({ name: "runs", state: "ready" }),
  ];
  expect(ordered(models).map(({ name }) => name)).toEqual(["runs", "waits", "bad", "m9", "m10"]);
  expect(models.filter(FILTERS.trouble).map(({ name }) => name)).toEqual(["bad"]);
});

it.each([["qw", true], ["QWEN gpt", true], ["qwen llama", false], ["", true]])("searches for %j", (text, found) => {
  expect(matches(aModel({ aliases: ["gpt-4o"] }), text)).toBe(found);
});

it("names what is at stake", () => {
  expect(atStake(aModel({ in_flight: 1, queued: 3 }))).toBe("1 request in flight will end first.\n3 requests in the queue will be refused.");
  expect(atStake(aModel())).toBe("");
});

describe("facts", () => {
  it("tell estimated memory from measured", () => {
    expect(memory(aModel({ footprint: { ram: 2 ** 30, devices: [2 ** 31, 0], measured: false } }))).toBe("≈ 1 GiB RAM, 2 GiB VRAM");
    expect(memory(aModel({ footprint: { ram: 0, devices: [], measured: true } }))).toBe("–");
  });
  it("say who serves it", () => {
    expect(source(aModel({ url: "http://x" }))).toBe("remote server");
    expect(source(aModel({ quantisation: "Q4_K_M", size: 2 ** 30 }))).toBe("Q4_K_M, 1 GiB");
  });
  it("count on by themselves", () => {
    const model = aModel({ uptime: 10, idle: 5, ttl: 60, told: 1000 });
    expect([uptime(model, 6000), idle(model, 6000)]).toEqual(["15 s", "stops in 50 s"]);
  });
  it("say when it stops by itself", () => {
    expect(idle(aModel({ ttl: null }), 0)).toBe("stays until room is needed");
    expect(idle(aModel({ ttl: 60, idle: null }), 0)).toBe("stops after 1 min idle");
  });
  it("set what a start takes against what is free", () => {
    const host = { cpu_percent: 0, cores: [], load: [0, 0, 0] as [number, number, number], memory_total: 4, memory_used: 1, memory_available: 2 ** 30, received_rate: 0, sent_rate: 0 };
    const gpu = { index: 0, vendor: "nvidia", name: "x", utilization: 0, memory_used: 2 ** 30, memory_total: 3 * 2 ** 30, temperature: null, power: null };
    const model = aModel({ footprint: { ram: 2 ** 29, devices: [2 ** 32], measured: false } });
    expect(room(model, aSystem({ host, gpus: [gpu] }))).toEqual({
      words: "takes about 512 MiB RAM, 1 GiB free; takes about 4 GiB VRAM, 2 GiB free", fits: false,
    });
    expect(room(aModel({ footprint: { ram: 2 ** 20, devices: [], measured: true } }), aSystem({ host }))?.fits).toBe(true);
    expect([room(aModel(), aSystem({ host })), room({ ...model, state: "ready" }, aSystem({ host })), room(model, null)]).toEqual([null, null, null]);
  });
  it.each([
    ["model", "configured", { path: "edited" }], ["edits", "scanned", { path: "found", ctx_size: "edited" }],
    ["file", "scanned", { path: "found" }], [null, "configured", { path: "file" }],
  ])("say what deleting means: %s", (kind, from, origins) => {
    expect(erasure({ ...aModel({ source: from }), config: {}, origins })).toBe(kind);
  });
  it("show first what somebody has set", () => {
    const details = { ...aModel(), config: { threads: null, ctx_size: 4096 }, origins: { threads: "default", ctx_size: "file" } };
    expect(settings(details)).toEqual([
      { name: "ctx_size", value: "4096", origin: "file" }, { name: "threads", value: "–", origin: "default" },
    ]);
  });
});

describe("the form", () => {
  const field = (name: string) => FIELDS.find((one) => one.name === name)!;

  it.each([["ctx_size", "4096", ""], ["ctx_size", "4k", "whole"], ["ctx_size", "-1", "0 or more"], ["gpu_layers", "-1", ""],
    ["parallel", "300", "256 or less"], ["ttl", "5m", ""], ["ttl", "soon", "like"], ["threads", "", ""]])(
    "takes %s = %j: %j", (name, value, words) => {
      const found = fault(field(name), value);
      if (words) expect(found).toContain(words);
      else expect(found).toBe("");
    });

  it("sends only what was changed, and takes back what was emptied", () => {
    const before = toValues({ ctx_size: 4096, aliases: ["a"], pinned: false, ttl: 300, description: "x" });
    expect(before.ttl).toBe("300s");
    const after = { ...before, ctx_size: "", aliases: "a, b,", pinned: true };
    expect(changes(after, before)).toEqual({ ctx_size: null, aliases: ["a", "b"], pinned: true });
    expect(changes(before, before)).toEqual({});
  });
});
