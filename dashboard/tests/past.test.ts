import { expect, it } from "vitest";
import { told } from "../src/live/past";
import { anEvent } from "./made";

const seen = (...events: Parameters<typeof anEvent>[0][]): string[] =>
  told(events.map(anEvent), "qwen").map(({ at, state, reason }) => [at / 1000, state, reason].join(" ").trim());

it("tells a start and how long it took", () => {
  expect(seen({ at: 1, state: "starting" }, { at: 4, state: "ready", seconds: 3, text: "ready after 3.0 s" }))
    .toEqual(["1 starting", "4 ready loaded in 3 s"]);
});

it("says why a process went also when it is gone", () => {
  expect(seen(
    { at: 1, state: "stopping", reason: "evicted", text: "evicted for llama: least recently used" },
    { at: 2, state: "stopped", reason: "evicted", text: "stopped: evicted" },
  )).toEqual(["1 stopping evicted for llama: least recently used", "2 stopped evicted for llama: least recently used"]);
});

it("takes the state out of its own reason", () => {
  expect(seen({ at: 1, state: "draining", reason: "fairness", text: "draining: making room for llama" }))
    .toEqual(["1 draining making room for llama"]);
});

it("is isolated from the failure on that opened the breaker, until that closes", () => {
  expect(seen(
    { at: 1, state: "crashed", detail: "qwen: exit code 3", text: "failed: qwen: exit code 3" },
    { at: 1.01, state: "breaker_open", detail: "qwen: exit code 3", text: "circuit breaker open" },
    { at: 9, state: "breaker_half_open", text: "circuit breaker half-open" },
    { at: 12, state: "breaker_closed", text: "circuit breaker closed" },
  )).toEqual(["1.01 isolated exit code 3", "9 failed exit code 3", "12 stopped"]);
});

it("keeps each of several failures", () => {
  const failure = { state: "crashed", detail: "qwen: no memory", text: "" };
  expect(seen({ at: 1, ...failure }, { at: 5, ...failure })).toEqual(["1 failed no memory", "5 failed no memory"]);
});

it("passes over what it does not know", () => {
  expect(seen({ at: 1, state: "asleep" }, { at: 2, state: "ready", reason: "resumed", text: "no longer draining" }))
    .toEqual(["2 ready no longer draining"]);
});
