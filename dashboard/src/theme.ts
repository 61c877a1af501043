/** Light, dark, or what the system says; and how close things stand. Kept in the browser. */

import { reactive, watchEffect } from "vue";

export type Theme = "auto" | "light" | "dark";

const THEME = "llamaproxy.theme";
const COMPACT = "llamaproxy.compact";

function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage is forbidden: what is chosen lasts as long as the page
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // as above
  }
}

const stored = kept(THEME);

export const look = reactive({
  theme: (stored === "light" || stored === "dark" ? stored : "auto") as Theme,
  compact: kept(COMPACT) === "yes",
  /** What is shown, after "auto" was decided. Charts draw themselves again when it changes. */
  dark: false,
});

const system = window.matchMedia("(prefers-color-scheme: dark)");

export function startTheme(): void {
  const decide = (): void => {
    look.dark = look.theme === "dark" || (look.theme === "auto" && system.matches);
  };
  system.addEventListener("change", decide);
  watchEffect(() => {
    decide();
    document.documentElement.dataset.theme = look.dark ? "dark" : "light";
    document.documentElement.dataset.compact = look.compact ? "yes" : "no";
    keep(THEME, look.theme);
    keep(COMPACT, look.compact ? "yes" : "no");
  }, { flush: "sync" });
}

export function nextTheme(): void {
  look.theme = look.theme === "auto" ? (look.dark ? "light" : "dark") : look.theme === "dark" ? "light" : "auto";
}
