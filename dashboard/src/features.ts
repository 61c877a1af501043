/** What this gateway can do, from its own description: a control for what it cannot is not shown. */

import { shallowReactive } from "vue";
import { get } from "./api";

type Paths = Record<string, Record<string, unknown>>;

const known = shallowReactive<{ paths: Paths }>({ paths: {} });
let asked: Promise<void> | null = null;

export function learn(): Promise<void> {
  asked ??= get<{ paths: Paths }>("api/openapi.json").then(
    ({ paths }) => void (known.paths = paths),
    () => void (asked = null), // asked again by the next page
  );
  return asked;
}

/** `path` as in the description, with a leading slash. */
export function can(method: "get" | "post" | "patch" | "put" | "delete", path: string): boolean {
  return known.paths[path]?.[method] !== undefined;
}
