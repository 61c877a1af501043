/** What llama-server's metrics are called for people. Pure; metrics that are not known here keep their names. */

import { count, percent, rate, UNKNOWN } from "../../format";

interface Known {
  label: string;
  spell: (value: number) => string;
}

const KNOWN: Record<string, Known> = {
  predicted_tokens_per_second: { label: "Generation, t/s", spell: rate },
  prompt_tokens_per_second: { label: "Prompt, t/s", spell: rate },
  requests_processing: { label: "Requests at work", spell: count },
  requests_deferred: { label: "Requests waiting", spell: count },
  kv_cache_usage_ratio: { label: "KV cache in use", spell: (value) => percent(100 * value) },
  kv_cache_tokens: { label: "Tokens in the KV cache", spell: count },
  n_busy_slots_per_decode: { label: "Busy slots per decode", spell: rate },
  tokens_predicted_total: { label: "Tokens generated", spell: count },
  prompt_tokens_total: { label: "Prompt tokens", spell: count },
  prompt_tokens_cached_total: { label: "Prompt tokens cached", spell: count },
  n_decode_total: { label: "Calls of decode", spell: count },
  n_tokens_max: { label: "Longest sequence, tokens", spell: count },
  tokens_predicted_seconds_total: { label: "Time generating, s", spell: rate },
  prompt_seconds_total: { label: "Time reading prompts, s", spell: rate },
  spec_decode_num_drafts_total: { label: "Drafts", spell: count },
  spec_decode_num_draft_tokens_total: { label: "Draft tokens", spell: count },
  spec_decode_num_accepted_tokens_total: { label: "Draft tokens accepted", spell: count },
};

const ORDER = Object.keys(KNOWN);

/** Labels and values; those that are known first, in their order. */
export function readings(metrics: Record<string, number>): [string, string][] {
  const place = (name: string): number => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return Object.entries(metrics)
    .sort(([a], [b]) => place(a) - place(b) || a.localeCompare(b))
    .map(([name, value]) => {
      const known = KNOWN[name];
      return known ? [known.label, known.spell(value)] : [name.replaceAll("_", " "), spelled(value)];
    });
}

function spelled(value: number): string {
  if (!Number.isFinite(value)) return UNKNOWN;
  return Number.isInteger(value) ? count(value) : rate(value);
}
