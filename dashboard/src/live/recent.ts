/** The last minutes of the whole gateway and of every model, gathered while the page is open. */

import { shallowRef, watch } from "vue";
import { get } from "../api";
import { can, learn } from "../features";
import { store } from "./index";
import { type Sample, Samples, sampleOf } from "./samples";
import { type Change, Strips } from "./strips";

export const samples = new Samples();
export const strips = new Strips();
/** Grows with every sample, and every change: what is computed from them depends on it. */
export const sampled = shallowRef(0);
export const changed = shallowRef(0);

store.hear("metrics", (system) => {
  samples.add(system.time, sampleOf(system));
  sampled.value += 1;
});

store.hear("models", (models) => {
  strips.see(models, Date.now());
  changed.value += 1;
});

watch(() => store.status.mode, (mode) => mode === "offline" && strips.lose(Date.now()));

interface Past {
  columns: Record<string, (number | null)[]>;
}

/** What the gateway remembers of the time before the page was opened; silent where it remembers nothing. */
export async function recall(): Promise<void> {
  await learn();
  const remembers = can("get", "/api/models/history");
  const [past, states] = await Promise.allSettled([
    get<Past>("api/system/history?range=1h"),
    remembers ? get<{ models: Record<string, Change[]> }>("api/models/history?range=1h") : Promise.reject(),
  ]);
  if (past.status === "fulfilled") {
    samples.before(older(past.value.columns));
    sampled.value += 1;
  }
  if (states.status === "fulfilled") {
    strips.remember(states.value.models);
    changed.value += 1;
  }
}

function older(columns: Past["columns"]): { at: number; sample: Sample }[] {
  const at = (name: string, index: number): number | null => columns[name]?.[index] ?? null;
  const share = (used: string, total: string, index: number): number | null => {
    const [part, whole] = [at(used, index), at(total, index)];
    return part !== null && whole ? (100 * part) / whole : null;
  };
  return (columns.timestamp ?? []).flatMap((time, index) => time === null ? [] : [{
    at: time,
    sample: {
      generation: at("generation_tps", index),
      prompt: at("prompt_tps", index),
      requests: at("requests_per_minute", index),
      tokens: at("tokens_per_minute", index),
      in_flight: at("in_flight", index),
      queued: at("queued", index),
      cpu: at("cpu_percent", index),
      memory: share("memory_used", "memory_total", index),
      gpu: at("gpu_percent", index),
      gpu_memory: share("gpu_memory_used", "gpu_memory_total", index),
    },
  }]);
}
