/** How the gateway is, in sentences. Pure; what stands first matters most. */

import { bytes, clock, count, plural } from "../../format";
import { stateOf, type Tone, withoutName } from "../../states";
import type { Model, System } from "../../types";
import { percentOf } from "./past";

export interface Health {
  status: "ok" | "degraded";
  version: string;
  tasks: number;
  config: { file: string | null; loaded_at: number; error: string | null };
  requests: { database: string | null; spooled_rows: number; lost_rows: number; error: string | null };
}

export interface Word {
  tone: Extract<Tone, "good" | "warn" | "bad">;
  text: string;
}

const NEARLY_FULL = 95;

const bad = (text: string): Word => ({ tone: "bad", text });
const warn = (text: string): Word => ({ tone: "warn", text });

export function words(health: Health, system: System | null, models: Model[]): Word[] {
  const found = [...ofGateway(health), ...ofModels(models), ...(system ? ofMachine(system) : [])];
  return found.length ? found : [{ tone: "good", text: "All is well: the configuration is in force, requests are recorded, no model is in trouble." }];
}

function* ofGateway({ config, requests }: Health): Generator<Word> {
  if (config.error) {
    yield bad(`The newest configuration cannot be used; the one of ${clock(config.loaded_at * 1000)} stays in force: ${config.error}`);
  }
  if (requests.error) {
    yield bad(`Requests are not written to the database, ${plural(requests.spooled_rows, "row waits", "rows wait")}: ${requests.error}`);
  }
  if (requests.lost_rows) yield warn(`${plural(requests.lost_rows, "request")} could not be recorded and ${requests.lost_rows === 1 ? "is" : "are"} not in the history.`);
}

function* ofModels(models: Model[]): Generator<Word> {
  for (const model of models) {
    if (stateOf(model) === "isolated") yield bad(`${model.name} has failed too often and gets no requests for a while: ${withoutName(model, model.breaker.reason)}`);
    else if (stateOf(model) === "failed") yield warn(`${model.name} did not start: ${withoutName(model, model.last_failure?.reason ?? "")}`);
  }
}

function* ofMachine({ host, disk, engines, reasons }: System): Generator<Word> {
  const memory = percentOf(host?.memory_used, host?.memory_total);
  if (host && memory !== null && memory >= NEARLY_FULL) {
    yield warn(`Memory is nearly full: ${bytes(host.memory_available)} of ${bytes(host.memory_total)} are left.`);
  }
  const used = percentOf(disk?.used, disk?.total);
  if (disk && used !== null && used >= NEARLY_FULL) {
    yield warn(`The disk with ${disk.path} is nearly full: ${bytes(disk.free)} of ${bytes(disk.total)} are left.`);
  }
  if (reasons.host) yield warn(`The machine does not tell how it is: ${reasons.host}`);
  if (reasons.disk) yield warn(`The disk does not tell how it is: ${reasons.disk}`);
  for (const [name, engine] of Object.entries(engines)) {
    if (engine.error) yield warn(`The engine of ${name} does not tell its metrics: ${engine.error}`);
  }
}

/** Where things are kept, for who looks after the gateway. */
export function facts({ config, requests, tasks }: Health): [string, string][] {
  return [
    ["Configuration", config.file ?? "defaults and environment only"],
    ["In force since", clock(config.loaded_at * 1000)],
    ["Database", requests.database ?? "none: the history ends with the process"],
    ["Rows waiting", count(requests.spooled_rows)],
    ["Tasks", count(tasks)],
  ];
}
