/** The lines of the log while its page is open: what the gateway keeps of earlier, and what comes. */

import { computed, type ComputedRef, onScopeDispose, type Ref, ref, shallowRef, watch } from "vue";
import { get, reasonOf } from "../../api";
import { type Live, useTopic } from "../../live";
import type { Logs } from "../../live/topics";
import { preferences } from "../../preferences";
import type { LogEntry, LogPage } from "../../types";
import { asked, type Filter, type Judge, judge } from "./filter";
import { Intake } from "./intake";
import { after, merged } from "./lines";

const EARLIER = 500;

export interface Feed {
  topic: Live<Logs>;
  /** Those that the filter lets through. */
  shown: Ref<LogEntry[]>;
  total: ComputedRef<number>;
  dropped: Ref<number>;
  error: ComputedRef<string | null>;
  earlier: { more: boolean; busy: boolean; error: string | null };
  loadEarlier(): Promise<void>;
  clear(): void;
}

export function useFeed(filter: Readonly<Filter>): Feed {
  const all = shallowRef<LogEntry[]>([]);
  const shown = shallowRef<LogEntry[]>([]);
  const dropped = ref(0);
  const verdict = computed<Judge>(() => judge(filter));
  const earlier = ref({ more: true, busy: false, error: null as string | null });
  let seen = -1;
  let lost = 0;
  let turn: AbortController | null = null;

  const intake = new Intake((entries, left) => {
    dropped.value += left;
    all.value = merged(all.value, entries, preferences.logLines);
    const fitting = entries.filter(verdict.value.matches);
    if (fitting.length) shown.value = merged(shown.value, fitting, preferences.logLines);
  });

  function hear({ entries, dropped: told }: Logs): void {
    if (!entries.length) forget();
    const left = told < lost ? told : told - lost; // a snapshot counts anew
    const fresh = after(entries, seen);
    seen = fresh.at(-1)?.id ?? seen;
    lost = told;
    if (fresh.length || left) intake.put(fresh, left);
  }

  function forget(): void {
    intake.clear();
    all.value = shown.value = [];
    dropped.value = lost = 0;
  }

  function choose(): void {
    shown.value = all.value.filter(verdict.value.matches);
  }

  async function fetch(before?: number): Promise<void> {
    turn?.abort();
    const mine = (turn = new AbortController());
    Object.assign(earlier.value, { busy: true, error: null });
    try {
      const page = await get<LogPage>(`api/logs?${asked(filter, EARLIER, before)}`, mine.signal);
      if (mine !== turn) return;
      all.value = merged(all.value, page.logs.toReversed(), preferences.logLines);
      earlier.value.more = page.next !== null && all.value.length < preferences.logLines;
      choose();
    } catch (error) {
      if (mine === turn) earlier.value.error = reasonOf(error);
    } finally {
      if (mine === turn) earlier.value.busy = false;
    }
  }

  const topic = useTopic("logs", hear);
  if (topic.cell.value) hear(topic.cell.value); // from an earlier visit
  watch(verdict, choose);
  watch(() => [filter.level, filter.source, filter.request], () => void fetch(), { immediate: true });
  onScopeDispose(() => turn?.abort());

  return {
    topic, shown, dropped,
    total: computed(() => all.value.length),
    error: computed(() => verdict.value.error),
    earlier: earlier.value,
    loadEarlier: () => fetch(shown.value[0]?.id),
    clear: forget,
  };
}
