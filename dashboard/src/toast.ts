/** Short words about what was done, or was not. */

import { reactive } from "vue";

export type ToastKind = "done" | "failed" | "note";

export interface Toast {
  id: number;
  kind: ToastKind;
  text: string;
}

const MOST = 4;
const SHOWN_MS = { done: 4000, note: 6000, failed: 10_000 };
let number = 0;

export const toasts = reactive<Toast[]>([]);

export function toast(text: string, kind: ToastKind = "done"): void {
  const id = (number += 1);
  toasts.push({ id, kind, text });
  if (toasts.length > MOST) toasts.shift();
  setTimeout(() => dismiss(id), SHOWN_MS[kind]);
}

export function dismiss(id: number): void {
  const at = toasts.findIndex((one) => one.id === id);
  if (at >= 0) toasts.splice(at, 1);
}
