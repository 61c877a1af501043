/** Keys: `g` and a page's letter, `/` for the search field, `?` for help. Esc belongs to the dialogs. */

import { ref } from "vue";
import { navigate } from "./router";
import { ROUTES } from "./routes";

const CHORD_MS = 1500;

export const helpOpen = ref(false);

export const KEYS: readonly [string, string][] = [
  ...ROUTES.map((route): [string, string] => [`g ${route.key}`, route.title]),
  ["/", "Search this page"],
  ["?", "This help"],
  ["Esc", "Close what is open"],
];

export function startKeyboard(): void {
  let chord = 0;
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    if (performance.now() - chord < CHORD_MS) {
      chord = 0;
      const route = ROUTES.find(({ key }) => key === event.key);
      if (route) return done(event, () => navigate(route.name));
    }
    if (event.key === "g") chord = performance.now();
    else if (event.key === "/") done(event, focusSearch);
    else if (event.key === "?") done(event, () => (helpOpen.value = true));
  });
}

function done(event: KeyboardEvent, action: () => void): void {
  event.preventDefault();
  action();
}

function focusSearch(): void {
  document.querySelector<HTMLInputElement>("input[type=search]")?.focus();
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
