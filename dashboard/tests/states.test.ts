import { describe, expect, it } from "vitest";
import { breakerWords, elapsed, endWords, loadingWords, LOOKS, progress, reasonIn, requestLook, stateOf, timeline, waitingWords } from "../src/states";
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
    expect(reasonIn(aModel({ state: "draining", in_flight: 3, leaving: "evicted" }))).toBe("evicted: another model needs the room");
    expect(reasonIn(aModel({ state: "draining", leaving: "fairness", successor: "llama" }))).toContain("makes room for llama");
  });
  it("names what is in flight", () => expect(reasonIn(aModel({ state: "ready", in_flight: 2 }))).toBe("2 requests in flight"));
  it("is what counted last for one that is isolated", () => expect(reasonIn(aModel({ breaker: open }))).toBe("it died"));
  it("does not repeat the name", () => {
    expect(reasonIn(aModel({ last_failure: { reason: "qwen: exited with code 3", output: null } }))).toBe("exited with code 3");
  });
  it("is a new word as it stands", () => expect(reasonIn(aModel({ leaving: "moved" as never }))).toBe("moved"));
});

it("shows the phase of a request in flight where it is known", () => {
  expect(requestLook(aRequest({ state: "in_flight", phase: "loading" })).label).toBe("Loading");
  expect(requestLook(aRequest({ state: "in_flight", phase: "prompt" })).label).toBe("Reading prompt");
  expect(requestLook(aRequest({ state: "in_flight", phase: "prompt", stream: false })).label).toBe("At work");
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
  it.each([
    ["queued", { queue_ms: 700, load_ms: 0 }, { queued: 1200 }],
    ["loading", { queue_ms: 100, load_ms: 600 }, { queued: 100, loading: 1100 }],
    ["prompt", { queue_ms: 100, load_ms: 500 }, { queued: 100, loading: 500, prompt: 600 }],
  ] as const)("has what it does now grow, where that has not ended: %s", (phase, waits, expected) => {
    expect(parts({ state: "in_flight", phase, ttfb_ms: null, duration_ms: 700, told: 10_000, ...waits }, 10_500)).toEqual(expected);
  });
  it("goes on by itself from what was told, whatever the clocks say", () => {
    const row = aRequest({ state: "in_flight", duration_ms: 400, started_at: 9e9, told: 10_000 });
    expect([elapsed(row, 10_600), elapsed(row, 9000), elapsed({ ...row, told: undefined }, 10_600)]).toEqual([1000, 400, 400]);
  });
  it("is never longer than the whole", () => {
    expect(parts({ queue_ms: 900, load_ms: 900, duration_ms: 1000, ttfb_ms: 1000 })).toEqual({ queued: 900, loading: 100 });
  });
});

describe("a start", () => {
  const starts = (given: Parameters<typeof aModel>[0]) => aModel({ state: "starting", told: 1000, starting_for: 2, ...given });

  it("is told in percent by those before it, and goes on by itself", () => {
    expect([progress(starts({ load_seconds: 8 }), 1000), progress(starts({ load_seconds: 8 }), 3000)]).toEqual([25, 50]);
    expect(loadingWords(starts({ load_seconds: 8 }), 3000)).toBe("loading, about 4 s left");
    expect(loadingWords(starts({ load_seconds: 8 }), 6700)).toBe("loading, about 1 s left");
  });
  it("is never done before it is", () => {
    expect(progress(starts({ load_seconds: 3 }), 60_000)).toBe(99);
    expect(loadingWords(starts({ load_seconds: 3 }), 11_000)).toBe("loading for 12 s, longer than before");
  });
  it("is not known the first time", () => {
    expect(progress(starts({ load_seconds: null }), 2000)).toBeNull();
    expect(loadingWords(starts({ load_seconds: null }), 2000)).toContain("not known yet");
  });
});

describe("what a request waits for", () => {
  const waits = aModel({ name: "llama", queued: 1 });
  it.each([
    ["qwen ends 2 requests first, then makes room", waits, aModel({ state: "draining", in_flight: 2, successor: "llama" })],
    ["qwen is stopping to make room", waits, aModel({ state: "stopping", successor: "llama" })],
    ["room: it is taken by qwen", waits, aModel({ state: "ready" })],
    ["its turn to start", waits, aModel()],
    ["all its places are taken: 4 requests in flight", aModel({ name: "llama", state: "ready", in_flight: 4, queued: 1 }), aModel()],
    ["its old process has to end first", aModel({ name: "llama", state: "stopping", queued: 1 }), aModel()],
  ])("is %s", (words, model, other) => expect(waitingWords(model, [model, other], 0)).toBe(words));
});

it("counts down until a breaker lets a request try", () => {
  const model = aModel({ breaker: open, retry_in: 30, told: 0 });
  expect(breakerWords(model, 10_000)).toContain("for 20 s more");
  expect(breakerWords(model, 60_000)).toContain("until the next one tries it");
  expect(breakerWords(aModel({ breaker: open }))).toContain("until it is tried again");
});

it.each([
  ["", {}],
  ["cancelled by an operator under way", { state: "rejected", status: 200 }],
  ["499: cancelled by an operator", { state: "rejected", status: 499 }],
  ["the answer broke off", { state: "truncated", status: 200 }],
  ["503: the model could not be used", { state: "upstream_error", status: 503 }],
  ["418: refused", { state: "rejected", status: 418 }],
  ["503: no room for the model in time", { state: "rejected", status: 503, error: "queue_timeout" }],
  ["404: no such model or address", { state: "rejected", status: 404, error: "model_not_found" }],
  ["the answer broke off: the engine fell silent", { state: "truncated", status: 200, error: "upstream_stalled" }],
] as const)("says %j of how it ended", (words, given) => expect(endWords(aRequest(given))).toBe(words));
