/** What `/api/config` says. */

import type { Value } from "./values";

export type Origin = "default" | "found" | "file" | "edited" | "environment" | "flag" | "runtime";

export type Table<T> = Record<string, Record<string, T>>;

export interface Effective {
  file: string | null;
  config: Table<Value>;
  origins: Table<Origin | Record<string, Origin>>;
  editable?: Table<boolean | Record<string, boolean>>;
  restart_required?: string[];
}

export interface Entry {
  section: string;
  key: string;
  value: Value | undefined;
  origin: Origin;
  editable: boolean;
}

export const ORIGINS: Record<Origin, { label: string; tone: "idle" | "accent" | "busy" | "warn"; meaning: string }> = {
  default: { label: "default", tone: "idle", meaning: "Nobody has said anything else." },
  found: { label: "found", tone: "idle", meaning: "Found in the directory of models." },
  file: { label: "file", tone: "accent", meaning: "From the configuration file." },
  edited: { label: "edited", tone: "busy", meaning: "Changed here; it is kept over restarts." },
  environment: { label: "environment", tone: "warn", meaning: "From an environment variable, which nothing here can outdo." },
  flag: { label: "flag", tone: "warn", meaning: "From the command line, which nothing here can outdo." },
  runtime: { label: "until reload", tone: "busy", meaning: "Changed while the gateway runs, until it reads its configuration again." },
};

export const SECTIONS: [string, string][] = [
  ["server", "Server"], ["engine", "Engine"], ["limits", "Limits"], ["breaker", "Circuit breaker"],
  ["catalog", "Catalogue"], ["kv", "KV caches"], ["telemetry", "Records and log"],
];

/** A whole table may come from one place, and then its values do. */
function at<T extends string | boolean>(table: Table<T | Record<string, T>> | undefined, section: string, key: string): T | undefined {
  const found = table?.[section]?.[key];
  return typeof found === "object" ? Object.values(found)[0] : found;
}

export function entriesOf(effective: Effective, section: string): Entry[] {
  return Object.entries(effective.config[section] ?? {}).map(([key, value]) => ({
    section, key, value,
    origin: at(effective.origins, section, key) ?? "default",
    editable: at(effective.editable, section, key) === true,
  }));
}
