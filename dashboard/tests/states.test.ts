import { describe, expect, it } from "vitest";
import { LOOKS, reasonIn, requestLook, stateOf, timeline } from "../src/states";
import { aModel, aRequest } from "./made";

const open = { state: "open", reason: "it died" } as const;

describe("the state of a model", () => {
  it.each([
    ["stopped", {}],
    ["queued", { queued: 2 }],
    ["failed", { last_failure: { reason: "no memory", output: null } }],
    ["isolated", { breaker: open, queued: 2 }],
    ["starting", { state: "starting" }],
    ["ready", { state: "ready" }],
    ["busy", { state: "ready", in_flight: 1 }],
    ["draining", { state: "draining", in_flight: 1 }],
  ] as const)("is %s", (state, given) => expect(stateOf(aModel(given))).toBe(state));

  it("has a word and an icon in each", () => {
    for (const look of Object.values(LOOKS)) expect([look.label, look.icon].every(Boolean)).toBe(true);
  });
});

describe("its reason", () => {
  it("says why it leaves, before all others", () => {
    expect(reasonIn(aModel({ state: "draining", in_flight: 3, leaving: "evicted" }))).toContain("least recently");
  });
  it("names what is in flight", () => expect(reasonIn(aModel({ state: "ready", in_flight: 2 }))).toBe("2 requests in flight"));
  it("is what counted last for one that is isolated", () => expect(reasonIn(aModel({ breaker: open }))).toBe("it died"));
  it("is a new word as it stands", () => expect(reasonIn(aModel({ leaving: "moved" as never }))).toBe("moved"));
});

it("shows the phase of a request in flight where it is known", () => {
  expect(requestLook(aRequest({ state: "in_flight", phase: "loading" })).label).toBe("Loading");
  expect(requestLook(aRequest({ state: "in_flight" })).label).toBe("In flight");
});

describe("where a request's time went", () => {
  const parts = (given: Parameters<typeof aRequest>[0], now?: number): Record<string, number> =>
    Object.fromEntries(timeline(aRequest(given), now).map(({ name, ms }) => [name, Math.round(ms)]));

  it("is measured up to the first byte, and after it", () => {
    expect(parts({ queue_ms: 50, load_ms: 200, ttfb_ms: 400, duration_ms: 1000 }))
      .toEqual({ queued: 50, loading: 200, prompt: 150, generation: 600 });
  });
  it("is told by the engine's speed where the answer comes in one piece", () => {
    expect(parts({ stream: false, ttfb_ms: 1000, duration_ms: 1000, completion_tokens: 20, generation_tps: 25 }))
      .toEqual({ prompt: 200, generation: 800 });
  });
  it("is no prompt's where the request was refused", () => {
    expect(parts({ state: "rejected", ttfb_ms: null, queue_ms: 30, load_ms: null, duration_ms: 40 })).toEqual({ queued: 30 });
  });
  it("grows while it is in flight", () => {
    expect(parts({ state: "in_flight", duration_ms: null, ttfb_ms: null, queue_ms: 500, load_ms: null }, 1_002_000))
      .toEqual({ queued: 500, prompt: 1500 });
  });
  it("is never longer than the whole", () => {
    expect(parts({ queue_ms: 900, load_ms: 900, duration_ms: 1000, ttfb_ms: 1000 })).toEqual({ queued: 900, loading: 100 });
  });
});
