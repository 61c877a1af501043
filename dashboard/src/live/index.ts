/** The one store of this page, and how a component uses it. */

import { computed, onScopeDispose, type ComputedRef } from "vue";
import { socketUrl } from "../base";
import { type Cell, Store } from "./store";
import type { TopicName, Topics } from "./topics";

export const store = new Store(socketUrl);

export interface Live<T> {
  cell: Cell<T>;
  value: ComputedRef<T | null>;
}

/** Keep a topic up to date while the calling component is there. */
export function useTopic<Name extends TopicName>(name: Name, hearer?: (value: Topics[Name]) => void): Live<Topics[Name]> {
  const cell = store.cell(name);
  if (hearer) onScopeDispose(store.hear(name, hearer));
  onScopeDispose(store.want(name));
  return { cell, value: computed(() => cell.value) };
}
