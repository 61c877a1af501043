/** The line that the address names: one of those that are here, or asked for. */

import { onScopeDispose, type ShallowRef, shallowRef, watch } from "vue";
import { get, reasonOf } from "../../api";
import { closeDrawer, query } from "../../router";
import { toast } from "../../toast";
import type { LogEntry, LogPage } from "../../types";

const NAME = "line";

/** The id in an address; null where it is none. */
export const idIn = (text: string | null): number | null => (/^\d{1,16}$/.test(text ?? "") ? Number(text) : null);

export function useOpened(here: () => readonly LogEntry[]): Readonly<ShallowRef<LogEntry | null>> {
  const opened = shallowRef<LogEntry | null>(null);
  let wanted: number | null = null;

  async function look(text: string | null): Promise<void> {
    const id = (wanted = idIn(text));
    opened.value = here().find((line) => line.id === id) ?? null;
    if (text === null || opened.value) return;
    try {
      const line = id === null ? undefined : (await get<LogPage>(`api/logs?after=${id - 1}&limit=1`)).logs[0];
      if (id !== wanted) return;
      if (line?.id === id) opened.value = line;
      else gone("This line is not kept any more");
    } catch (error) {
      if (id === wanted) gone(reasonOf(error));
    }
  }

  function gone(why: string): void {
    toast(why, "note");
    closeDrawer(NAME);
  }

  watch(() => query.value.get(NAME), (text) => void look(text), { immediate: true });
  onScopeDispose(() => (wanted = null));
  return opened;
}
