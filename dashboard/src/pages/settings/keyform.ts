/** The form of a new key: what may stand in it, and what is sent. Pure. */

export interface TypedKey {
  name: string;
  models: string[];
  rpm: string;
  tpm: string;
  concurrency: string;
  priority: string;
  expires: string;
  admin: boolean;
}

export const plainKey = (): TypedKey => ({
  name: "", models: [], rpm: "", tpm: "", concurrency: "", priority: "", expires: "", admin: false,
});

export interface NumberField {
  name: "rpm" | "tpm" | "concurrency" | "priority";
  label: string;
  least: number;
  most: number;
}

export const NUMBERS: readonly NumberField[] = [
  { name: "rpm", label: "Requests a minute", least: 1, most: 2 ** 31 - 1 },
  { name: "tpm", label: "Tokens a minute", least: 1, most: 2 ** 31 - 1 },
  { name: "concurrency", label: "Requests at once", least: 1, most: 100_000 },
  { name: "priority", label: "Priority", least: -1000, most: 1000 },
];

const NAME = /^[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}$/;
const LASTS = /^\d+(\.\d+)?(s|m|h|d)$/;

/** What to send, or what is wrong by the name of the field. The gateway has the last word. */
export function readKey(typed: TypedKey): { key: Record<string, unknown> | null; faults: Record<string, string> } {
  const faults: Record<string, string> = {};
  const key: Record<string, unknown> = { name: typed.name.trim() };
  if (!NAME.test(typed.name.trim())) faults.name = "Letters, digits and . _ : / + @ -, beginning with a letter or digit.";
  for (const { name, least, most } of NUMBERS) {
    const text = typed[name].trim();
    if (!text) continue;
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) key[name] = value;
    else faults[name] = `A whole number from ${least} to ${most.toLocaleString("en")}, or nothing.`;
  }
  const expires = typed.expires.trim();
  if (expires && !LASTS.test(expires)) faults.expires = "Such as 12h or 30d, or nothing.";
  else if (expires) key.expires = expires;
  if (typed.models.length) key.models = typed.models;
  if (typed.admin) key.admin = true;
  return { key: Object.keys(faults).length ? null : key, faults };
}
