/** The lines of the log while its page is open: what the gateway keeps of earlier, and what comes. */

import { computed, type ComputedRef, onScopeDispose, type Ref, ref, shallowRef, watch } from "vue";
import { get, reasonOf } from "../../api";
import { type Live, useTopic } from "../../live";
import type { Logs } from "../../live/topics";
import { preferences } from "../../preferences";
import type { LogEntry, LogPage } from "../../types";
import { asked, type Filter, type Judge, judge, reach } from "./filter";
import { Intake } from "./intake";
import { after, merged } from "./lines";

const EARLIER = 500;
/** Whoever types has not finished yet. */
const TYPING_MS = 300;

export interface Earlier {
  more: boolean;
  busy: boolean;
  error: string | null;
  /** Lines before the one with this id were not looked at; null: all that are kept were. */
  from: number | null;
}

export interface Feed {
  topic: Live<Logs>;
  /** Those that the filter lets through. */
  shown: Ref<LogEntry[]>;
  total: ComputedRef<number>;
  /** How far back a search has looked. */
  reached: ComputedRef<string>;
  dropped: Ref<number>;
  error: ComputedRef<string | null>;
  earlier: Earlier;
  loadEarlier(): Promise<void>;
  clear(): void;
}

export function useFeed(filter: Readonly<Filter>): Feed {
  const all = shallowRef<LogEntry[]>([]);
  const shown = shallowRef<LogEntry[]>([]);
  const dropped = ref(0);
  const verdict = computed<Judge>(() => judge(filter));
  const earlier = ref<Earlier>({ more: true, busy: false, error: null, from: null });
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
      const found = page.logs.toReversed();
      all.value = merged(all.value, found, preferences.logLines);
      shown.value = merged(shown.value, found.filter(verdict.value.matches), preferences.logLines);
      earlier.value.from = page.next;
      earlier.value.more = page.next !== null && shown.value.length < preferences.logLines;
    } catch (error) {
      if (mine === turn) earlier.value.error = reasonOf(error);
    } finally {
      if (mine === turn) earlier.value.busy = false;
    }
  }

  const topic = useTopic("logs", hear);
  if (topic.cell.value) hear(topic.cell.value); // from an earlier visit
  watch(verdict, choose);
  let typing: ReturnType<typeof setTimeout> | undefined;
  watch(() => [filter.level, filter.source, filter.request, filter.regex], () => void fetch(), { immediate: true });
  watch(() => filter.text, () => {
    clearTimeout(typing);
    if (!filter.regex) typing = setTimeout(() => void fetch(), TYPING_MS);
  });
  onScopeDispose(() => {
    clearTimeout(typing);
    turn?.abort();
  });

  return {
    topic, shown, dropped,
    total: computed(() => all.value.length),
    reached: computed(() => (earlier.value.busy ? "Searching…" : reach(filter, earlier.value.from, all.value))),
    error: computed(() => verdict.value.error),
    earlier: earlier.value,
    loadEarlier: () => fetch(earlier.value.from ?? undefined),
    clear: forget,
  };
}
