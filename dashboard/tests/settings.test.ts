import { describe, expect, it } from "vitest";
import { FailureWatch } from "../src/notify";
import { plainKey, readKey } from "../src/pages/settings/keyform";
import { since, sums, type UsageRow } from "../src/pages/settings/usage";
import { DEFAULTS, understood } from "../src/preferences";
import { aModel } from "./made";

describe("a new key", () => {
  it("needs no more than a name", () => expect(readKey({ ...plainKey(), name: " laptop " }).key).toEqual({ name: "laptop" }));

  it("has the rules that were typed, and no others", () => {
    const typed = { ...plainKey(), name: "ci", rpm: "60", priority: "-5", expires: "30d", models: ["qwen"], admin: true };
    expect(readKey(typed).key).toEqual({ name: "ci", rpm: 60, priority: -5, expires: "30d", models: ["qwen"], admin: true });
  });

  it.each([
    ["name", ""], ["name", "two words"], ["name", "-x"], ["name", "é"], ["rpm", "0"], ["rpm", "1.5"], ["tpm", "many"],
    ["concurrency", "100001"], ["priority", "-1001"], ["expires", "tomorrow"], ["expires", "30"],
  ])("cannot have %s = %o", (name, text) => {
    const { key, faults } = readKey({ ...plainKey(), name: "laptop", [name]: text });
    expect(key).toBeNull();
    expect(Object.keys(faults)).toEqual([name]);
  });
});

describe("usage", () => {
  const row = (given: Partial<UsageRow>): UsageRow =>
    ({ requests: 3, ok: 2, prompt_tokens: 10, cached_tokens: 4, completion_tokens: 20, ...given });

  it("has the largest first, and what each is of it", () => {
    const all = sums([row({ model: "a" }), row({ model: "b", completion_tokens: 50 }), row({ model: null, prompt_tokens: 0, completion_tokens: 0 })], "model");
    expect(all.map(({ name, tokens, share, failed }) => [name, tokens, share, failed])).toEqual([
      ["b", 60, 1, 1], ["a", 30, 0.5, 1], ["no model", 0, 0, 1],
    ]);
  });

  it("has the newest day first", () => {
    expect(sums([row({ day: "2026-01-01" }), row({ day: "2026-01-02" })], "day").map(({ name }) => name)).toEqual(["2026-01-02", "2026-01-01"]);
  });

  it("begins with a whole day of UTC", () => {
    const noon = Date.UTC(2026, 0, 10, 12);
    expect(since(1, noon)).toBe(Date.UTC(2026, 0, 10) / 1000);
    expect(since(7, noon)).toBe(Date.UTC(2026, 0, 4) / 1000);
    expect(since(0, noon)).toBe(0);
  });
});

describe("what a browser remembers", () => {
  it.each([null, "not JSON", "null", "5", '{"refresh": "never", "logLines": -1, "notify": "yes"}'])(
    "is as by default after %o", (text) => expect(understood(text)).toEqual(DEFAULTS));
  it("is what was chosen", () => {
    expect(understood('{"refresh": "slow", "logLines": 500, "notify": true}')).toEqual({ refresh: "slow", logLines: 500, notify: true });
  });
});

describe("models that fail", () => {
  const broken = aModel({ last_failure: { reason: "no file", output: null } });

  it("are told once, and again after they were well", () => {
    const watch = new FailureWatch();
    expect(watch.look([aModel()])).toEqual([]);
    expect(watch.look([broken])).toEqual([{ name: "qwen", reason: "no file" }]);
    expect(watch.look([broken])).toEqual([]);
    expect(watch.look([aModel({ state: "ready" })])).toEqual([]);
    expect(watch.look([broken])).toHaveLength(1);
  });

  it("are told when they fail for another reason", () => {
    const watch = new FailureWatch();
    watch.look([broken]);
    const isolated = aModel({ breaker: { state: "open", reason: "crashed" } });
    expect(watch.look([isolated])).toEqual([{ name: "qwen", reason: "crashed" }]);
  });

  it("are no news when the page is opened", () => expect(new FailureWatch().look([broken])).toEqual([]));
});
