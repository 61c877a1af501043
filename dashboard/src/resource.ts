/** Something that REST has: its value, whether it is on its way, and why it did not come. */

import { onScopeDispose, shallowReactive } from "vue";
import { get, reasonOf } from "./api";

export interface Resource<T> {
  value: T | null;
  loading: boolean;
  error: string | null;
  load(): Promise<void>;
}

/** `path` is asked for at each `load`; an answer that a later one has overtaken is dropped. */
export function useResource<T>(path: () => string): Resource<T> {
  let turn: AbortController | null = null;
  const resource = shallowReactive<Resource<T>>({
    value: null,
    loading: false,
    error: null,
    async load() {
      turn?.abort();
      const mine = (turn = new AbortController());
      resource.loading = true;
      try {
        const value = await get<T>(path(), mine.signal);
        if (mine === turn) Object.assign(resource, { value, error: null });
      } catch (error) {
        if (mine === turn) resource.error = reasonOf(error);
      } finally {
        if (mine === turn) resource.loading = false;
      }
    },
  });
  onScopeDispose(() => turn?.abort());
  return resource;
}
