/** Tells through the browser when a model fails, where a person has asked for that. */

import { watch } from "vue";
import { store } from "./live";
import { preferences } from "./preferences";
import { reasonIn, stateOf } from "./states";
import type { Model } from "./types";

export interface Failure {
  name: string;
  reason: string;
}

const isFailed = (model: Model): boolean => ["failed", "isolated"].includes(stateOf(model));

/** Those that have failed since the last look; the first look finds none. */
export class FailureWatch {
  private known: Map<string, string> | null = null;

  look(models: readonly Model[]): Failure[] {
    const before = this.known;
    const failed = models.filter(isFailed);
    this.known = new Map(failed.map((model) => [model.name, reasonIn(model)]));
    if (!before) return [];
    return failed
      .map((model) => ({ name: model.name, reason: reasonIn(model) }))
      .filter(({ name, reason }) => before.get(name) !== reason);
  }
}

export const canNotify = (): boolean => "Notification" in window && window.isSecureContext;

/** Whether the person, and then the browser, allows it. */
export async function askToNotify(): Promise<boolean> {
  return canNotify() && (await Notification.requestPermission()) === "granted";
}

export function startNotifications(): void {
  let end: (() => void) | null = null;
  watch(() => preferences.notify, (wanted) => {
    end?.();
    end = wanted && canNotify() && Notification.permission === "granted" ? begin() : null;
  }, { immediate: true });
}

function begin(): () => void {
  const failures = new FailureWatch();
  const forget = store.hear("models", (models) => failures.look(models).forEach(tell));
  const release = store.want("models");
  return () => {
    forget();
    release();
  };
}

/** With a tag, so that one model shows one notification. */
function tell({ name, reason }: Failure): void {
  const shown = new Notification(`${name} has failed`, { body: reason.slice(0, 300), tag: `llamaproxy-${name}` });
  shown.onclick = () => window.focus();
}
