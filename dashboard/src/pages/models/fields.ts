/** The fields of a model that a person may set here: their words, bounds, and the way to JSON and back. Pure. */

export interface Field {
  name: string;
  label: string;
  kind: "number" | "text" | "list" | "switch" | "duration";
  hint?: string;
  least?: number;
  most?: number;
}

export const FIELDS: readonly Field[] = [
  { name: "description", label: "Description", kind: "text", hint: "Shown in lists of models" },
  { name: "aliases", label: "Aliases", kind: "list", hint: "Further names, with commas between" },
  { name: "ctx_size", label: "Context size", kind: "number", hint: "Tokens, all slots together. Empty: the model's own", least: 0, most: 2 ** 31 - 1 },
  { name: "parallel", label: "Slots", kind: "number", hint: "Requests at once. Empty: the engine's choice", least: 1, most: 256 },
  { name: "gpu_layers", label: "GPU layers", kind: "number", hint: "-1: all. Empty: the engine's choice", least: -1, most: 10_000 },
  { name: "batch_size", label: "Batch size", kind: "number", hint: "Empty: the engine's choice", least: 1, most: 2 ** 31 - 1 },
  { name: "threads", label: "Threads", kind: "number", hint: "Empty: the engine's choice", least: 1, most: 1024 },
  { name: "ttl", label: "Stop when idle for", kind: "duration", hint: "As 90s, 5m or 2h. Empty: never" },
  { name: "priority", label: "Priority", kind: "number", hint: "Lower ones are evicted first. Empty: 0", least: -1000, most: 1000 },
  { name: "pinned", label: "Pinned: never evict it", kind: "switch" },
  { name: "preload", label: "Start it with the gateway", kind: "switch" },
];

export type Values = Record<string, string | boolean>;

export function toValues(config: Record<string, unknown>): Values {
  return Object.fromEntries(FIELDS.map(({ name, kind }) => {
    const value = config[name];
    if (kind === "switch") return [name, value === true];
    if (kind === "list") return [name, Array.isArray(value) ? value.join(", ") : ""];
    if (kind === "duration") return [name, typeof value === "number" ? `${value}s` : String(value ?? "")];
    return [name, value === null || value === undefined ? "" : String(value)];
  }));
}

/** Why a value cannot be taken; nothing where it can. */
export function fault(field: Field, value: string | boolean | undefined): string {
  const text = String(value ?? "").trim();
  if (field.kind === "number" && text) {
    const number = Number(text);
    if (!Number.isInteger(number)) return "must be a whole number";
    if (field.least !== undefined && number < field.least) return `must be ${field.least} or more`;
    if (field.most !== undefined && number > field.most) return `must be ${field.most} or less`;
  }
  if (field.kind === "duration" && text && !/^\d+(\.\d+)?(ms|s|m|h|d)?$/.test(text)) return "must be like 90s, 5m or 2h";
  return "";
}

/** Only what differs from before. An empty field takes the setting back. */
export function changes(values: Values, before: Values): Record<string, unknown> {
  return Object.fromEntries(FIELDS.flatMap((field) => {
    const value = values[field.name];
    return value === before[field.name] ? [] : [[field.name, toJson(field, value)]];
  }));
}

function toJson(field: Field, value: string | boolean | undefined): unknown {
  if (typeof value === "boolean") return value;
  const text = (value ?? "").trim();
  if (field.kind === "list") return text.split(",").map((one) => one.trim()).filter(Boolean);
  if (field.kind === "text") return text;
  if (!text) return null;
  return field.kind === "number" ? Number(text) : text;
}
