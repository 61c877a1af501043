/** The fields of a conversation's settings: what may stand in them. Pure. */

import type { Sampling } from "./conversations";

type Named = Exclude<keyof Sampling, "system">;
export type Typed = Record<keyof Sampling, string>;

interface Field {
  name: Named;
  label: string;
  meaning: string;
  least: number;
  most: number;
  whole?: boolean;
}

export const FIELDS: readonly Field[] = [
  { name: "temperature", label: "Temperature", meaning: "0 always takes the likeliest word; 1 is lively.", least: 0, most: 2 },
  { name: "top_p", label: "Top p", meaning: "Only the likeliest words, which together have this share: 0 to 1.", least: 0, most: 1 },
  { name: "max_tokens", label: "Most tokens", meaning: "Where an answer is cut.", least: 1, most: 1_000_000, whole: true },
];

export function written(sampling: Sampling): Typed {
  const shown = (value: number | null): string => (value === null ? "" : String(value));
  const { system, temperature, top_p, max_tokens } = sampling;
  return { system, temperature: shown(temperature), top_p: shown(top_p), max_tokens: shown(max_tokens) };
}

/** The settings, or what is wrong with them by the name of the field. */
export function readSampling(typed: Typed): { sampling: Sampling | null; faults: Record<string, string> } {
  const faults: Record<string, string> = {};
  const sampling: Sampling = { system: typed.system, temperature: null, top_p: null, max_tokens: null };
  for (const { name, least, most, whole } of FIELDS) {
    const text = typed[name].trim().replace(",", ".");
    if (!text) continue;
    const value = Number(text);
    const good = Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value));
    if (good) sampling[name] = value;
    else faults[name] = `${whole ? "A whole number" : "A number"} from ${least} to ${most.toLocaleString("en")}, or nothing.`;
  }
  return { sampling: Object.keys(faults).length ? null : sampling, faults };
}
