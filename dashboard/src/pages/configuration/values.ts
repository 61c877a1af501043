/** Values of the configuration as they are shown, as they stand in a field, and as they are sent. Pure. */

import { bytes, duration, UNKNOWN } from "../../format";
import type { Kind } from "./meaning";

export type Value = string | number | boolean | null | Value[] | { [name: string]: Value };

export function shown(value: Value | undefined, kind: Kind): string {
  if (value === null || value === undefined) return "unset";
  if (value === "") return UNKNOWN;
  if (typeof value === "boolean") return value ? "on" : "off";
  if (Array.isArray(value)) return value.length ? value.map((one) => shown(one, kind)).join(", ") : "none";
  if (typeof value === "object") return Object.entries(value).map(([name, one]) => `${name}=${shown(one, kind)}`).join(", ") || "none";
  if (typeof value === "string") return value;
  if (kind === "bytes") return bytes(value);
  return kind === "duration" ? seconds(value) : String(value);
}

function seconds(value: number): string {
  if (value && value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 60 ? `${value} s` : duration(value);
}

const SIZES: [string, number][] = [["GiB", 1024 ** 3], ["MiB", 1024 ** 2], ["KiB", 1024]];

/** In the gateway's own spelling. */
export function typed(value: Value | undefined, kind: Kind): string {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map((one) => typed(one, kind)).join(", ");
  if (typeof value === "number" && kind === "duration") return `${value}s`;
  if (typeof value === "number" && kind === "bytes") {
    const [unit, size] = SIZES.find(([, size]) => value && value % size === 0) ?? ["", 1];
    return `${value / size}${unit}`;
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What to send. The gateway is who judges it: it understands "90s", "8GiB" and "a, b". */
export function toSend(text: string, kind: Kind): Value {
  const bare = text.trim();
  if (kind === "truth") return bare === "true";
  return kind !== "text" && kind !== "choice" && /^-?\d+(\.\d+)?$/.test(bare) ? Number(bare) : bare;
}

/** A word about what may be typed, where that is not plain. */
export const HINTS: Partial<Record<Kind, string>> = {
  duration: "A time, such as 500ms, 90s, 5m or 1h",
  bytes: "A size, such as 512MiB or 8GiB",
  list: "Several, with commas between",
};
