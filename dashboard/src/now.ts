/** The time, for what counts up or down on the page; stands still in a hidden tab. */

import { onScopeDispose, type Ref, ref } from "vue";

export function useNow(everyMs = 1000): Ref<number> {
  const now = ref(Date.now());
  const timer = setInterval(() => {
    if (!document.hidden) now.value = Date.now();
  }, everyMs);
  onScopeDispose(() => clearInterval(timer));
  return now;
}
