/** Which lines are wanted. Pure; owns what a filter means, and saying what is wrong with a regular expression. */

import { clock, plural } from "../../format";
import type { LogEntry, LogLevel } from "../../types";

export interface Filter {
  /** This level or worse. */
  level: LogLevel;
  /** Empty: everything; "gateway": all but what engines print; "model:NAME": about it, or of its engine. */
  source: string;
  /** Empty: any. */
  request: string;
  text: string;
  regex: boolean;
}

export const LEVELS: readonly LogLevel[] = ["debug", "info", "warning", "error"];
export const GATEWAY = "gateway";
export const LONGEST_TEXT = 200;
const MODEL = "model:";
/** Characters of a line that an expression is tried on: a slow one must not take long. */
const LOOKED_AT = 2000;

type Test = (entry: LogEntry) => boolean;

export interface Judge {
  matches: Test;
  /** What is wrong with the expression; no line is left out for it then. */
  error: string | null;
}

export const modelOf = (source: string): string | null => (source.startsWith(MODEL) ? source.slice(MODEL.length) : null);
export const sourceOf = (model: string): string => MODEL + model;

export function judge(filter: Filter): Judge {
  const least = LEVELS.indexOf(filter.level);
  const tests: Test[] = [];
  if (least > 0) tests.push((entry) => LEVELS.indexOf(entry.level) >= least);
  if (filter.source === GATEWAY) tests.push((entry) => entry.source !== "engine");
  const model = modelOf(filter.source);
  if (model !== null) tests.push((entry) => entry.model === model);
  if (filter.request) tests.push((entry) => entry.request_id === filter.request);
  const { test, error } = search(filter);
  if (test) tests.push(test);
  return { matches: (entry) => tests.every((one) => one(entry)), error };
}

function search({ text, regex }: Filter): { test: Test | null; error: string | null } {
  if (!text) return { test: null, error: null };
  if (!regex) {
    const wanted = text.toLowerCase();
    return { test: (entry) => spelled(entry).toLowerCase().includes(wanted), error: null };
  }
  try {
    const expression = new RegExp(text.slice(0, LONGEST_TEXT), "iu");
    return { test: (entry) => expression.test(spelled(entry).slice(0, LOOKED_AT)), error: null };
  } catch (error) {
    return { test: null, error: `This is not a regular expression yet: ${reason(error)}. All lines are shown.` };
  }
}

const spelled = (entry: LogEntry): string => `${entry.source} ${entry.model ?? ""} ${entry.message}\n${entry.context ?? ""}`;

/** Engines say "Invalid regular expression: /[/iu: Unterminated character class". */
function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^Invalid regular expression: \/.*\/[a-z]*: /s, "").toLowerCase();
}

/** How far back a search has looked: `from` is where the gateway stopped, `lines` those that are here. */
export function reach({ text, regex }: Filter, from: number | null, lines: readonly LogEntry[]): string {
  if (!text) return "";
  const oldest = lines[0];
  if (regex) return oldest ? `Only the ${plural(lines.length, "line")} loaded here, back to ${clock(oldest.timestamp * 1000)}` : "";
  return from === null ? "In all lines that are kept" : `Back to ${clock(from / 1000)}`;
}

/** The part of a filter that the gateway knows, too, as a query: for lines from before the page was opened. */
export function asked(filter: Filter, limit: number, before?: number): string {
  const query = new URLSearchParams({ limit: String(limit), level: filter.level });
  const model = modelOf(filter.source);
  if (model) query.set("model", model);
  if (filter.request) query.set("request_id", filter.request);
  if (filter.text && !filter.regex) query.set("q", filter.text.slice(0, LONGEST_TEXT));
  if (before !== undefined) query.set("before", String(before));
  return query.toString();
}
