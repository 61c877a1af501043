import { describe, expect, it } from "vitest";
import { TOPICS } from "../src/live/topics";
import { aModel, aRequest } from "./made";

describe("models", () => {
  const before = TOPICS.models.snapshot({ models: [aModel({ name: "a" }), aModel({ name: "b" })] });
  const apply = (event: string, data: unknown): [string, string][] =>
    TOPICS.models.apply(before, event, data).map(({ name, state }) => [name, state]);

  it("take a change where they stand", () => {
    expect(apply("models:status", { models: [aModel({ name: "a", state: "ready" })] })).toEqual([["a", "ready"], ["b", "stopped"]]);
  });
  it("get new ones at the end", () => {
    expect(apply("models:created", { models: [aModel({ name: "c" })] }).map(([name]) => name)).toEqual(["a", "b", "c"]);
  });
  it("lose deleted ones", () => expect(apply("models:deleted", { names: ["a"] })).toEqual([["b", "stopped"]]));
  it("stay as they are at an event that is not known", () => expect(apply("models:moved", {})).toHaveLength(2));
  it("know when they were told", () => expect(before[0]?.told).toBeGreaterThan(0));
});

describe("requests", () => {
  const before = TOPICS.requests.snapshot({ in_flight: [aRequest({ id: "x", state: "in_flight" })], finished: [aRequest({ id: "a" })] });

  it("have the newest first, and what is in flight anew", () => {
    const after = TOPICS.requests.apply(before, "requests:update", {
      in_flight: [], total: 0, finished: [aRequest({ id: "b", started_at: 1 }), aRequest({ id: "c", started_at: 2 })],
    });
    expect(after.finished.map(({ id }) => id)).toEqual(["c", "b", "a"]);
    expect([after.in_flight, after.total]).toEqual([[], 0]);
  });
  it("do not grow without end", () => {
    const many = Array.from({ length: 500 }, (_, at) => aRequest({ id: String(at) }));
    expect(TOPICS.requests.apply(before, "requests:update", { in_flight: [], finished: many }).finished).toHaveLength(200);
  });
  it("are told apart where REST tells them together", () => {
    const told = { requests: [aRequest({ id: "x", state: "in_flight" }), aRequest({ id: "y" })], totals: { in_flight: 7 }, next: null };
    const value = TOPICS.requests.rest!.read(told);
    expect(value.in_flight[0]?.told).toBeGreaterThan(0);
    expect([value.in_flight[0]?.id, value.finished[0]?.id, value.total]).toEqual(["x", "y", 7]);
  });
});

describe("logs", () => {
  const before = TOPICS.logs.snapshot({ entries: [{ id: 1 }] });

  it("follow", () => {
    const after = TOPICS.logs.apply(before, "logs:entry", { entries: [{ id: 2 }], dropped: 3 });
    expect([after.entries.map(({ id }) => id), after.dropped]).toEqual([[1, 2], 3]);
  });
  it("keep five thousand lines", () => {
    const many = Array.from({ length: 6000 }, (_, id) => ({ id }));
    expect(TOPICS.logs.apply(before, "logs:entry", { entries: many }).entries).toHaveLength(5000);
  });
  it("can be cleared", () => expect(TOPICS.logs.apply(before, "logs:cleared", {}).entries).toEqual([]));
});
