/** What a person has chosen for this browser, beside its look: kept here, and told to no gateway. */

import { reactive, watch } from "vue";
import { store } from "./live";
import type { Pace } from "./live/store";

export interface Preferences {
  /** live: as it changes; slow: every ten seconds; off: when a page is opened. */
  refresh: Pace;
  /** Lines of the log that the page keeps. */
  logLines: number;
  /** Whether the browser tells when a model fails. */
  notify: boolean;
}

export const LOG_LINES = [500, 1000, 2000, 5000] as const;
export const DEFAULTS: Readonly<Preferences> = { refresh: "live", logLines: 5000, notify: false };

const KEY = "llamaproxy.preferences";

/** What of a strange text is believed; the rest is as by default. */
export function understood(text: string | null): Preferences {
  let found: Partial<Record<keyof Preferences, unknown>> = {};
  try {
    found = Object(JSON.parse(text ?? "{}")) as typeof found;
  } catch {
    // as if nothing were there
  }
  const refresh = (["live", "slow", "off"] as const).find((one) => one === found.refresh) ?? DEFAULTS.refresh;
  const logLines = LOG_LINES.find((one) => one === found.logLines) ?? DEFAULTS.logLines;
  return { refresh, logLines, notify: found.notify === true };
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is forbidden: what is chosen lasts as long as the page
  }
}

export const preferences = reactive(understood(stored()));

watch(preferences, (chosen) => {
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
  } catch {
    // as above
  }
});

watch(() => preferences.refresh, (pace) => store.setPace(pace), { immediate: true });
