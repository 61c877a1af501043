import { expect, it } from "vitest";
import { added, byModel, measure } from "../src/pages/dashboard/hour";
import { aUsage } from "./made";

it("counts faults as errors, and refusals apart", () => {
  const rows = [aUsage({ requests: 10, upstream_error: 1, truncated: 3 }), aUsage({ model: null, requests: 5, rejected: 4 })];
  expect(added(rows)).toEqual({ requests: 15, errors: 4, rejected: 4, worst: "truncated" });
});

it("leads to what was refused where nothing else went wrong", () => {
  expect(added([aUsage({ rejected: 2 })]).worst).toBe("rejected");
  expect(added([])).toEqual({ requests: 0, errors: 0, rejected: 0, worst: "rejected" });
});

it("lists the busiest model first, and nothing that is none", () => {
  const rows = [aUsage({ model: "a", requests: 1 }), aUsage({ model: null, requests: 9 }), aUsage({ model: "b", requests: 2 })];
  expect(byModel(rows).map(({ model }) => model)).toEqual(["b", "a"]);
});

it("does not know what was not measured", () => {
  const row = aUsage({ generation_tps_p50: 12.5, prompt_tps_p50: null });
  expect([measure(row, "generation_tps_p50"), measure(row, "prompt_tps_p50"), measure(row, "new_p50")]).toEqual([12.5, null, null]);
});
