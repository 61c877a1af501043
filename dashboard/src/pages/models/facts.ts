/** A model's facts in words. Pure. */

import { bytes, duration, plural, UNKNOWN } from "../../format";
import { since } from "../../states";
import type { Model, ModelDetails, System } from "../../types";

export function memory(model: Model): string {
  const { footprint } = model;
  if (!footprint) return UNKNOWN;
  const devices = footprint.devices.reduce((sum, one) => sum + one, 0);
  const parts = [footprint.ram ? `${bytes(footprint.ram)} RAM` : "", devices ? `${bytes(devices)} VRAM` : ""].filter(Boolean);
  return parts.length ? `${footprint.measured ? "" : "≈ "}${parts.join(", ")}` : UNKNOWN;
}

/** What a start would take against what is free, in words; nothing where one of them is not known. */
export function room(model: Model, system: System | null): { words: string; fits: boolean } | null {
  const { footprint } = model;
  if (!footprint || model.state !== "stopped") return null;
  const free = system?.host?.memory_available;
  const vram = system?.gpus.reduce<number | null>((sum, gpu) => gpu.memory_total === null || gpu.memory_used === null
    ? sum : (sum ?? 0) + gpu.memory_total - gpu.memory_used, null);
  const devices = footprint.devices.reduce((sum, one) => sum + one, 0);
  const parts = [
    ...(footprint.ram && free !== undefined ? [{ name: "RAM", takes: footprint.ram, free }] : []),
    ...(devices && typeof vram === "number" ? [{ name: "VRAM", takes: devices, free: vram }] : []),
  ];
  if (!parts.length) return null;
  const about = footprint.measured ? "" : "about ";
  return {
    words: parts.map(({ name, takes, free: left }) => `takes ${about}${bytes(takes)} ${name}, ${bytes(left)} free`).join("; "),
    fits: parts.every(({ takes, free: left }) => takes <= left),
  };
}

/** What deleting a model means: it was made here, it is a file of the directory, or only its edits are ours. */
export type Erasure = "model" | "file" | "edits" | null;

export function erasure(details: ModelDetails): Erasure {
  if (details.origins.path === "edited") return "model";
  const isEdited = Object.values(details.origins).some((origin) => originOf(origin).includes("edited"));
  if (isEdited) return "edits";
  return details.source === "scanned" ? "file" : null;
}

/** Quantisation and size, or who serves it. */
export function source(model: Model): string {
  if (model.url) return "remote server";
  if (model.kind === "command") return "own command";
  return [model.quantisation, model.size ? bytes(model.size) : ""].filter(Boolean).join(", ") || "GGUF file";
}

export function uptime(model: Model, now: number): string {
  return model.uptime === null ? UNKNOWN : duration(model.uptime + since(model, now));
}

/** When it stops by itself. */
export function idle(model: Model, now: number): string {
  if (!model.ttl) return "stays until room is needed";
  if (model.idle === null || model.idle === undefined) return `stops after ${duration(model.ttl)} idle`;
  return `stops in ${duration(model.ttl - model.idle - since(model, now))}`;
}

export function load(model: Model): string {
  return [plural(model.in_flight, "in flight", "in flight"), model.queued ? `${model.queued} queued` : ""].filter(Boolean).join(", ");
}

/** What was set, by whom; what is as it always is comes last. */
export function settings(details: ModelDetails): { name: string; value: string; origin: string }[] {
  return Object.entries(details.config)
    .map(([name, value]) => ({ name, value: shown(value), origin: originOf(details.origins[name]) }))
    .sort((a, b) => Number(a.origin === "default") - Number(b.origin === "default"));
}

function originOf(origin: unknown): string {
  if (typeof origin === "string") return origin;
  return origin && typeof origin === "object" ? [...new Set(Object.values(origin).map(originOf))].join(", ") || "default" : "default";
}

function shown(value: unknown): string {
  if (value === null || value === "") return UNKNOWN;
  if (typeof value === "object") return Object.keys(value).length ? JSON.stringify(value) : UNKNOWN;
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}
