/** Numbers and times as people read them. Pure; what is not known is an en dash, never a zero. */

export const UNKNOWN = "–";

type Maybe = number | null | undefined;

const known = (value: Maybe): value is number => value !== null && value !== undefined && Number.isFinite(value);

/** A count: 1,234, then 12.3k, 4.5M. */
export function count(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size < 10_000) return Math.round(value).toLocaleString("en");
  if (size < 999_500) return `${trimmed(value / 1e3)}k`;
  if (size < 999_500_000) return `${trimmed(value / 1e6)}M`;
  return `${trimmed(value / 1e9)}G`;
}

/** A speed: one decimal below a hundred. */
export function rate(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  if (value === 0) return "0";
  return Math.abs(value) < 100 ? value.toFixed(1) : count(value);
}

export function percent(value: Maybe): string {
  return known(value) ? `${Math.round(value)} %` : UNKNOWN;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  let unit = 0;
  let size = Math.abs(value);
  while (size >= 1023.5 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${value < 0 ? "-" : ""}${unit === 0 ? Math.round(size) : trimmed(size)} ${UNITS[unit]}`;
}

/** From milliseconds: 8 ms, 1.2 s, 2 min 5 s. */
export function milliseconds(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  if (value < 0.5) return "0 ms";
  if (value < 999.5) return `${Math.round(value)} ms`;
  if (value < 59_950) return `${(value / 1000).toFixed(1)} s`;
  return duration(value / 1000);
}

/** From seconds, in its two largest units. */
export function duration(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return joined(whole, 60, "min", 1, "s");
  if (whole < 86_400) return joined(whole, 3600, "h", 60, "min");
  return joined(whole, 86_400, "d", 3600, "h");
}

/** From seconds, of what may be over in less than one: 340 ms, 12 s. */
export const took = (value: Maybe): string => (known(value) && value < 1 ? milliseconds(value * 1000) : duration(value));

function joined(value: number, large: number, name: string, small: number, smallName: string): string {
  const rest = Math.floor((value % large) / small);
  return `${Math.floor(value / large)} ${name}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** A time of day; with the day in front where that is not today, and the year where it is not this one. From milliseconds since the epoch. */
export function clock(at: Maybe, now = Date.now()): string {
  if (!known(at)) return UNKNOWN;
  const date = new Date(at);
  const time = date.toLocaleTimeString("en-GB");
  const today = new Date(now);
  if (date.toDateString() === today.toDateString()) return time;
  const year = date.getFullYear() === today.getFullYear() ? undefined : "numeric";
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year })} ${time}`;
}

/** "1 request", "2 requests". */
export function plural(amount: number, one: string, many = `${one}s`): string {
  return `${count(amount)} ${amount === 1 ? one : many}`;
}

function trimmed(value: number): string {
  return value < 99.95 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(0);
}
