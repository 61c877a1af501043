/** The last minutes of the whole gateway and of every model, gathered while the page is open. */

import { shallowRef, watch } from "vue";
import { get } from "../api";
import { store } from "./index";
import { HOLE, type Sample, Samples, sampleOf } from "./samples";
import { Strips } from "./strips";
import type { ModelPast } from "../types";

const GROUNDS_MS = 3000;

export const samples = new Samples();
export const strips = new Strips();
/** Grows with every sample, and every change: what is computed from them depends on it. */
export const sampled = shallowRef(0);
export const changed = shallowRef(0);

let heard = Infinity;

store.hear("metrics", (system) => {
  const before = heard;
  heard = Date.now();
  if (heard - before > HOLE * 1000) { // the machine slept, or the tab did: nobody looked meanwhile
    strips.lose(before);
    void recall();
  }
  samples.add(system.time, sampleOf(system));
  sampled.value += 1;
});

store.hear("models", (models) => {
  if (strips.see(models, Date.now())) askForGrounds();
  changed.value += 1;
});

/** The gateway knows on what grounds a model left. */
let asking: ReturnType<typeof setTimeout> | undefined;

function askForGrounds(): void {
  asking ??= setTimeout(() => {
    asking = undefined;
    if (!document.hidden) void recallStates();
  }, GROUNDS_MS);
}

watch(() => store.status.mode, (mode, before) => {
  if (mode === "offline") strips.lose(Date.now());
  else if (before === "offline") void recall();
});

interface Past {
  columns: Record<string, (number | null)[]>;
}

/** Whether it has been asked what was before: until then charts and strips would be empty for no reason. */
export const recalled = shallowRef(false);

/** What the gateway remembers of the time before the page was opened; silent where it remembers nothing. */
export async function recall(): Promise<void> {
  await Promise.all([recallSamples(), recallStates()]);
  recalled.value = true;
}

async function recallSamples(): Promise<void> {
  try {
    samples.fill(older((await get<Past>("api/system/history?range=1h")).columns));
    sampled.value += 1;
  } catch {
    // The charts begin now; the banner says what is the matter.
  }
}

async function recallStates(): Promise<void> {
  try {
    strips.remember((await get<ModelPast>("api/models/history?range=1h")).models);
    changed.value += 1;
  } catch {
    // The strips begin now.
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
      generation: at("generation_per_second", index),
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
