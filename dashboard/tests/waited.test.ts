import { expect, it } from "vitest";
import { clock } from "../src/format";
import { whyQueued } from "../src/pages/requests/waited";
import { anEvent, aRequest } from "./made";

const row = aRequest({ model: "qwen", started_at: 100, queue_ms: 5000 });
const ready = (at: number) => anEvent({ at, state: "ready" });
const gone = (at: number, model: string) => [
  anEvent({ at, state: "stopping", reason: "evicted", text: `evicted for ${model}: least recently used` }), anEvent({ at: at + 1, state: "stopped" }),
];

it("tells who had the room, and who left for it", () => {
  expect(whyQueued(row, { llama: [ready(50), ...gone(104, "qwen")], gemma: [ready(60)], phi: [ready(10), ...gone(20, "gemma")] }))
    .toBe(`There was no room: llama, gemma were loaded. llama left for it at ${clock(104_000)}.`);
});

it("knows that who left for it was there, though it came later", () => {
  expect(whyQueued(row, { llama: [anEvent({ at: 101, state: "starting" }), ready(103), ...gone(104, "qwen")], gemma: [ready(60)] }))
    .toBe(`There was no room: llama, gemma were loaded. llama left for it at ${clock(104_000)}.`);
});

it("tells of nobody who left for another, or at another time", () => {
  expect(whyQueued(row, { llama: [ready(50), ...gone(104, "qwen2")] })).toBe("There was no room: llama was loaded.");
  expect(whyQueued(row, { llama: [ready(50), ...gone(106, "qwen")] })).toBe("There was no room: llama was loaded.");
});

it("tells that its own model was full, or on its way out", () => {
  expect(whyQueued(row, { qwen: [ready(50)], llama: [ready(50)] })).toBe("qwen was loaded, and all its places were taken.");
  expect(whyQueued(row, { qwen: [ready(50), ...gone(99.5, "llama")] })).toBe("");
  expect(whyQueued(row, { qwen: [ready(50), ...gone(99.5, "llama")], llama: [anEvent({ at: 99.6, state: "starting" })] }))
    .toBe("qwen had just left, and there was no room: llama was loaded.");
  expect(whyQueued(row, { qwen: [ready(50), anEvent({ at: 99.5, state: "draining" })] })).toContain("its old process had to end first");
});

it("says nothing of what it does not know, or of no wait", () => {
  expect(whyQueued(row, {})).toBe("");
  expect(whyQueued(row, { llama: [ready(101)] })).toBe("");
  expect(whyQueued({ ...row, queue_ms: 20 }, { llama: [ready(50)] })).toBe("");
  expect(whyQueued({ ...row, state: "in_flight" }, { llama: [ready(50)] })).toBe("");
});
