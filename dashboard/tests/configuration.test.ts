import { describe, expect, it } from "vitest";
import { meaningOf } from "../src/pages/configuration/meaning";
import { type Effective, entriesOf } from "../src/pages/configuration/types";
import { shown, toSend, typed, type Value } from "../src/pages/configuration/values";

const SCHEMA = {
  properties: { limits: { $ref: "#/$defs/LimitsConfig" } },
  $defs: {
    LimitsConfig: {
      properties: {
        models_max: { type: "integer", maximum: 1000, description: "most backends" },
        memory_budget: { anyOf: [{ type: "integer", le: 2 ** 53 }, { type: "null" }] },
        cache_bytes: { type: "integer", maximum: 2 ** 53 },
        linger: { anyOf: [{ type: "number" }, { type: "null" }] },
        carry: { type: "boolean" },
        log_format: { enum: ["text", "json"], type: "string" },
        vram_budgets: { type: "array", items: { type: "integer" } },
        host: { type: "string" },
      },
    },
  },
};

it.each([
  ["models_max", "count"], ["memory_budget", "bytes"], ["cache_bytes", "bytes"], ["linger", "duration"], ["carry", "truth"],
  ["log_format", "choice"], ["vram_budgets", "list"], ["host", "text"], ["new_key", "text"],
])("takes limits.%s for a %s", (key, kind) => expect(meaningOf(SCHEMA, "limits", key).kind).toBe(kind));

it("knows what a key means and what may be chosen, and waits for the schema", () => {
  expect(meaningOf(SCHEMA, "limits", "models_max").description).toBe("most backends");
  expect(meaningOf(SCHEMA, "limits", "log_format").choices).toEqual(["text", "json"]);
  expect(meaningOf(null, "limits", "models_max")).toEqual({ kind: "text", description: "", choices: [] });
});

it.each<[Value, "duration" | "bytes" | "count" | "text" | "truth" | "list", string]>([
  [null, "duration", "unset"], [0.1, "duration", "100 ms"], [0, "duration", "0 s"], [5, "duration", "5 s"], [300, "duration", "5 min"],
  [8 * 1024 ** 3, "bytes", "8 GiB"], [512, "count", "512"], [true, "truth", "on"], [[], "list", "none"],
  [["a", "b"], "list", "a, b"], ["", "text", "–"], [{ A: "1" }, "text", "A=1"], ["***", "text", "***"],
])("shows %o as %s: %s", (value, kind, text) => expect(shown(value, kind)).toBe(text));

it.each<[Value, "duration" | "bytes" | "count" | "list", string]>([
  [90, "duration", "90s"], [8 * 1024 ** 3, "bytes", "8GiB"], [1536 * 1024 ** 2, "bytes", "1536MiB"], [1000, "bytes", "1000"],
  [7, "count", "7"], [null, "count", ""], [["a", "b"], "list", "a, b"],
])("has %o of a %s typed as %s", (value, kind, text) => expect(typed(value, kind)).toBe(text));

it.each<[string, "duration" | "bytes" | "count" | "truth" | "text" | "list", Value]>([
  ["90", "duration", 90], ["90s", "duration", "90s"], [" 8GiB ", "bytes", "8GiB"], ["512", "count", 512], ["many", "count", "many"],
  ["true", "truth", true], ["false", "truth", false], ["123", "text", "123"], ["a, b", "list", "a, b"],
])("sends %o of a %s as %o", (text, kind, value) => expect(toSend(text, kind)).toEqual(value));

describe("what is effective", () => {
  const effective: Effective = {
    file: null,
    config: { limits: { models_max: 2, linger: null }, engine: { env: { A: "1" }, args: [] } },
    origins: { limits: { models_max: "edited", linger: "default" }, engine: { env: { A: "environment" }, args: "file" } },
    editable: { limits: { models_max: true, linger: false }, engine: { env: false, args: false } },
  };

  it("has for each key its value, who says it, and whether it can be edited", () => {
    expect(entriesOf(effective, "limits")).toEqual([
      { section: "limits", key: "models_max", value: 2, origin: "edited", editable: true },
      { section: "limits", key: "linger", value: null, origin: "default", editable: false },
    ]);
  });
  it("tells of a table what one of its values tells", () => {
    expect(entriesOf(effective, "engine").map(({ origin }) => origin)).toEqual(["environment", "file"]);
  });
  it("can edit nothing where the gateway does not say so", () => {
    const older = { file: null, config: effective.config, origins: effective.origins };
    expect(entriesOf(older, "limits").some(({ editable }) => editable)).toBe(false);
  });
});
