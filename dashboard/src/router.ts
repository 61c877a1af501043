/** Which page is shown. Pages lie one level deep, so that relative addresses hold; the query is a page's own. */

import { computed, readonly, ref } from "vue";
import { baseUrl } from "./base";
import { ROUTES, type Route } from "./routes";

const base = baseUrl();
const address = ref(location.href);

export const current = computed<Route | null>(() => find(new URL(address.value)));
export const query = computed(() => new URL(address.value).searchParams);
export const here = readonly(address);

export function find(url: URL): Route | null {
  const name = url.pathname.slice(base.pathname.length).replace(/\/$/, "") || "dashboard";
  return ROUTES.find((route) => route.name === name) ?? null;
}

export function href(name: string, asked: Record<string, string> = {}): string {
  const url = new URL(name, base);
  for (const [key, value] of Object.entries(asked)) if (value) url.searchParams.set(key, value);
  return url.href;
}

export function navigate(name: string, asked: Record<string, string> = {}): void {
  go(href(name, asked));
}

/** Change the page's own query without a new entry in the history. */
export function amend(asked: Record<string, string | null>): void {
  const url = amended(asked);
  history.replaceState(null, "", url);
  address.value = url.href;
}

/** What stands in the query under this name is shown in a drawer: Back closes it, Forward opens it again. */
export function openDrawer(name: string, value: string): void {
  const url = amended({ [name]: value });
  if (url.href === address.value) return;
  history.pushState({ drawer: name }, "", url);
  address.value = url.href;
}

/** As Back does; where the page was opened with it, there is nothing to go back to. */
export function closeDrawer(name: string): void {
  if (!query.value.has(name)) return; // closed already, and on the way back
  if ((history.state as { drawer?: string } | null)?.drawer !== name) return amend({ [name]: null });
  address.value = amended({ [name]: null }).href;
  history.back();
}

function amended(asked: Record<string, string | null>): URL {
  const url = new URL(address.value);
  for (const [key, value] of Object.entries(asked)) {
    if (value) url.searchParams.set(key, value);
    else url.searchParams.delete(key);
  }
  return url;
}

function go(url: string): void {
  if (url !== address.value) history.pushState(null, "", url);
  address.value = url;
  window.scrollTo(0, 0);
}

/** Links to pages stay in the page; all others, and those opened in new tabs, are the browser's. */
export function startRouter(): void {
  window.addEventListener("popstate", () => (address.value = location.href));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = (event.target as Element).closest?.("a[href]") as HTMLAnchorElement | null;
    if (!link || link.target || link.hasAttribute("download")) return;
    const url = new URL(link.href);
    if (url.origin !== base.origin || !url.pathname.startsWith(base.pathname) || !find(url)) return;
    event.preventDefault();
    go(url.href);
  });
}
