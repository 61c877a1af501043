/** Which models are listed, and in which order. Pure. */

import { stateOf } from "../../states";
import type { Model } from "../../types";

export type Filter = "all" | "loaded" | "stopped" | "trouble";

const isLoaded = (model: Model): boolean => model.state !== "stopped";
const isTrouble = (model: Model): boolean => ["failed", "isolated"].includes(stateOf(model)) || model.breaker.state !== "closed";

export const FILTERS: Record<Filter, (model: Model) => boolean> = {
  all: () => true,
  loaded: isLoaded,
  stopped: (model) => !isLoaded(model),
  trouble: isTrouble,
};

/** Every word of the search must be in its name, an alias, its description, quantisation or path. */
export function matches(model: Model, search: string): boolean {
  const text = [model.name, ...model.aliases, model.description, model.quantisation, model.path, model.url]
    .filter(Boolean).join("\n").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** Loaded ones first, then those that wait or failed, then the rest; each by name. */
export function ordered(models: readonly Model[]): Model[] {
  return [...models].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name, "en", { numeric: true }));
}

function rank(model: Model): number {
  if (isLoaded(model)) return 0;
  return model.queued ? 1 : isTrouble(model) ? 2 : 3;
}
