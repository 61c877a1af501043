import { describe, expect, it } from "vitest";
import { ApiError } from "../src/api";
import { readSampling, written } from "../src/pages/chat/sampling";
import { forecast, troubleIn, waitingWords } from "../src/pages/chat/words";
import { aModel } from "./made";

describe("what sending will do", () => {
  it("says that it loads a model", () => {
    expect(forecast(aModel())).toBe("Sending loads it.");
    expect(forecast(aModel({ load_seconds: 12 }))).toBe("Sending loads it, which takes about 12 s.");
  });
  it("says nothing of one that is there", () => expect(forecast(aModel({ state: "ready" }))).toBe(""));
  it("warns of one that fails", () => {
    expect(forecast(aModel({ breaker: { state: "open", reason: "x" } }))).toContain("Failed again and again");
  });
});

describe("why nothing comes yet", () => {
  it("is best told by the gateway", () => expect(waitingWords("queued, position 3", aModel())).toBe("Queued, position 3"));
  it("is told by the model's state before that", () => {
    expect(waitingWords("", aModel({ state: "starting", load_seconds: 9 }))).toBe("Loading qwen: takes about 9 s");
    expect(waitingWords("", aModel({ state: "ready", in_flight: 1 }))).toBe("Reading the prompt");
    expect(waitingWords("", aModel({ state: "ready", in_flight: 5 }))).toBe("Waiting for a free place");
    expect(waitingWords("", undefined)).toBe("Waiting for the gateway");
  });
});

describe("why nothing came", () => {
  it("has a plain title, and the gateway's reason", () => {
    expect(troubleIn(new ApiError("the file is gone", 503, "model_start_failed")))
      .toEqual({ title: "The model could not be started", text: "The file is gone" });
  });
  it("leaves a model its name", () => {
    expect(troubleIn(new ApiError("qwen: no such file", 503, "model_start_failed")).text).toBe("qwen: no such file");
  });
  it("is not said twice", () => {
    expect(troubleIn(new ApiError("the gateway cannot be reached", 0, "unreachable")).text).toBe("");
  });
  it("is told of anything else", () => expect(troubleIn(new Error("odd"))).toEqual({ title: "No answer", text: "Odd" }));
});

describe("settings of a chat", () => {
  const typed = { system: "Be brief.", temperature: " 0,7 ", top_p: "", max_tokens: "100" };
  it("reads what was typed", () => {
    expect(readSampling(typed).sampling).toEqual({ system: "Be brief.", temperature: 0.7, top_p: null, max_tokens: 100 });
  });
  it("writes them as they are typed", () => {
    expect(written({ system: "", temperature: 0, top_p: null, max_tokens: 5 })).toEqual({ system: "", temperature: "0", top_p: "", max_tokens: "5" });
  });
  it.each([["temperature", "hot"], ["temperature", "2.1"], ["top_p", "-0.1"], ["max_tokens", "0"], ["max_tokens", "1.5"], ["max_tokens", "Infinity"]])(
    "refuses %s = %s", (name, text) => {
      const { sampling, faults } = readSampling({ ...typed, [name]: text });
      expect(sampling).toBeNull();
      expect(Object.keys(faults)).toEqual([name]);
    });
});
