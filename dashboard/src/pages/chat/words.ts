/** Why nothing comes yet, and why nothing came, as people say it. Pure. */

import { ApiError, reasonOf } from "../../api";
import { took } from "../../format";
import { stateOf } from "../../states";
import type { Model } from "../../types";
import type { Early } from "./conversations";

/** What the model picker says below the model: what sending to it will do. */
export function forecast(model: Model): string {
  const state = stateOf(model);
  if (model.kind === "url") return "Served elsewhere.";
  if (state === "isolated") return "Failed again and again; it is tried again after a pause.";
  if (state === "failed") return "Its last start failed; sending tries it again.";
  if (state === "stopped") return `Sending loads it${model.load_seconds ? `, which takes about ${took(model.load_seconds)}` : ""}.`;
  if (state === "draining" || state === "stopping") return "It is leaving; sending loads it again.";
  return "";
}

/** From the gateway's comment, such as "loading qwen, 40 %", or before there is one from the model's state. */
export function waitingWords(comment: string, model: Model | undefined): string {
  if (comment) return sentence(comment);
  if (!model) return "Waiting for the gateway";
  if (model.state === "starting") return `Loading ${model.name}${model.load_seconds ? `: takes about ${took(model.load_seconds)}` : ""}`;
  if (model.state === "ready") return model.in_flight > 1 ? "Waiting for a free place" : "Reading the prompt";
  return `Waiting for ${model.name}`;
}

/** Why an answer ended before its end. */
export const ENDED: Record<Early, string> = {
  stopped: "Stopped by you before its end",
  length: "Cut off: it reached the most tokens that an answer may have",
  broken: "Broke off before its end",
};

const TITLES: Record<string, string> = {
  unreachable: "The gateway cannot be reached",
  broken: "The connection broke",
  truncated: "The answer was cut off",
  exceed_context_size_error: "The conversation is too long for this model",
  model_not_found: "There is no such model any more",
  model_start_failed: "The model could not be started",
  model_out_of_memory: "There is not enough memory for this model",
  model_unavailable: "The model is not available now",
  load_timeout: "Loading took too long",
  queue_timeout: "Waited too long for a place",
  queue_full: "Too many requests are waiting",
  rate_limit_exceeded: "Your key has reached its limit",
  upstream_stalled: "The engine fell silent",
  bad_upstream_response: "The engine broke off",
  request_crashed_backend: "The engine crashed on this request",
  engine_missing: "No engine is installed",
  request_cancelled: "An operator ended this request",
  model_not_allowed: "Your key may not use this model",
};

export interface Trouble {
  title: string;
  text: string;
}

export const EMPTY: Trouble = { title: "The answer is empty", text: "The model ended it before its first word." };

export function troubleIn(error: unknown): Trouble {
  const reason = sentence(reasonOf(error));
  const title = error instanceof ApiError ? TITLES[error.code] : undefined;
  if (!title) return { title: "No answer", text: reason };
  return { title, text: reason.toLowerCase() === title.toLowerCase() ? "" : reason };
}

/** What begins with a name and a colon keeps the name as it is. */
function sentence(words: string): string {
  return /^\S+:/.test(words) ? words : words.charAt(0).toUpperCase() + words.slice(1);
}
