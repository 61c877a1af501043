import { describe, expect, it } from "vitest";
import { readings } from "../src/pages/monitoring/engine";
import { type Health, words } from "../src/pages/monitoring/health";
import { Past } from "../src/pages/monitoring/past";
import type { Gpu, System } from "../src/types";
import { aModel, aSystem } from "./made";

const host: NonNullable<System["host"]> = {
  cpu_percent: 50, cores: [40, 60], load: [1, 2, 3], memory_total: 1000, memory_used: 400, memory_available: 600,
  received_rate: 10, sent_rate: 20,
};
const gpu = (given: Partial<Gpu>): Gpu => ({
  index: 0, vendor: "nvidia", name: "G", utilization: null, memory_used: null, memory_total: null, temperature: null,
  power: null, ...given,
});
const at = (time: number, given: Partial<System> = {}): System => aSystem({ time, host, ...given });

describe("the past", () => {
  it("goes on with what is told live", () => {
    const past = new Past("5m");
    past.add(at(1004));
    past.load({ step: 10, columns: { timestamp: [990, 1000, 1010], cpu_percent: [1, 2, 3] } });
    expect(past.with(past.column("cpu_percent"))).toEqual([[990, 1000, 1004], [1, 2, 50]]);
  });

  it("keeps one point a step, so that a page left open does not grow", () => {
    const past = new Past("24h");
    for (let time = 60_000; time < 60_600; time += 2) past.add(at(time));
    expect(past.with()[0]).toHaveLength(10);
  });

  it("shows the newest word of a step that is not over", () => {
    const past = new Past("24h");
    past.add(at(60_000));
    past.add(at(60_002, { host: { ...host, cpu_percent: 9 } }));
    expect(past.column("cpu_percent")).toEqual([9]);
  });

  it("forgets what is older than its range", () => {
    const past = new Past("5m");
    past.add(at(1000));
    past.add(at(1400));
    expect(past.with()[0]).toEqual([1400]);
  });

  it("hears nothing that is older than what it knows", () => {
    const past = new Past("5m");
    past.add(at(1000));
    past.add(at(990));
    expect(past.with()[0]).toEqual([1000]);
  });

  it("draws nothing over a time without the gateway", () => {
    const past = new Past("24h");
    past.load({ step: 60, columns: { timestamp: [60, 120, 720, 780], load: [1, 2, 3, 4] } });
    expect(past.with(past.column("load"))).toEqual([[60, 120, 420, 720, 780], [1, 2, null, 3, 4]]);
  });

  it("leaves a gap where nothing is known", () => {
    const past = new Past("5m");
    past.add(aSystem({ time: 1000 }));
    expect([past.column("cpu_percent"), past.share("memory_used", "memory_total")]).toEqual([[null], [null]]);
  });

  it("sums several GPUs up as the gateway does", () => {
    const past = new Past("5m");
    const gpus = [
      gpu({ utilization: 20, temperature: 60, power: 100, memory_used: 1, memory_total: 4 }),
      gpu({ utilization: 40, temperature: 70, power: 50, memory_used: 1, memory_total: 4 }),
    ];
    past.add(at(1000, { gpus }));
    expect([past.column("gpu_percent"), past.column("gpu_temperature"), past.column("gpu_power")]).toEqual([[30], [70], [150]]);
    expect(past.share("gpu_memory_used", "gpu_memory_total")).toEqual([25]);
  });
});

describe("health", () => {
  const well: Health = {
    status: "ok", version: "1.0.0", tasks: 3,
    config: { file: "/etc/llamaproxy.toml", loaded_at: 1000, error: null },
    requests: { database: "/var/db", spooled_rows: 0, lost_rows: 0, error: null },
  };
  const said = (...given: Parameters<typeof words>): string[] => words(...given).map(({ tone, text }) => `${tone}: ${text}`);

  it("says that all is well", () => {
    expect(said(well, at(1), [aModel()])).toEqual([expect.stringMatching(/^good: All is well/)]);
  });

  it("says what is wrong with the configuration and the database", () => {
    const config = { ...well.config, error: "limits.models_max: must be 1 or more" };
    const requests = { ...well.requests, error: "disk full", spooled_rows: 1, lost_rows: 2 };
    expect(said({ ...well, config, requests }, null, [])).toEqual([
      expect.stringMatching(/^bad: The newest configuration cannot be used.*limits\.models_max: must be 1 or more$/),
      "bad: Requests are not written to the database, 1 row waits: disk full",
      "warn: 2 requests could not be recorded and are not in the history.",
    ]);
  });

  it("says which models are in trouble", () => {
    const isolated = aModel({ name: "a", breaker: { state: "open", reason: "it crashed" } });
    const failed = aModel({ name: "b", last_failure: { reason: "no such file", output: null } });
    expect(said(well, null, [isolated, failed])).toEqual([
      "bad: a has failed too often and gets no requests for a while: it crashed",
      "warn: b did not start: no such file",
    ]);
  });

  it("says what of the machine runs out, and what does not tell", () => {
    const full = { host: { ...host, memory_used: 960, memory_available: 40 }, disk: { path: "/d", total: 100, used: 99, free: 1 } };
    const engines = { a: { error: "no answer within 5 s", age: 1, metrics: {} } };
    expect(said(well, at(1, { ...full, engines, reasons: { host: "no /proc", nvidia: "none" } }), [])).toEqual([
      "warn: Memory is nearly full: 40 B of 1000 B are left.",
      "warn: The disk with /d is nearly full: 1 B of 100 B are left.",
      "warn: The machine does not tell how it is: no /proc",
      "warn: The engine of a does not tell its metrics: no answer within 5 s",
    ]);
  });
});

it("puts an engine's metrics into words, the important ones first", () => {
  const metrics = { spec_decode_num_drafts: 1.25, tokens_predicted_total: 12_345, kv_cache_usage_ratio: 0.5 };
  expect(readings(metrics)).toEqual([
    ["KV cache in use", "50 %"],
    ["Tokens generated", "12.3k"],
    ["spec decode num drafts", "1.3"],
  ]);
});
