/** What can be done to a model. Each asks where work would be lost, and says what came of it. */

import { part, post, reasonOf, remove } from "../../api";
import { confirm } from "../../confirm";
import { plural } from "../../format";
import { toast } from "../../toast";
import type { Model } from "../../types";
import type { Erasure } from "./facts";

type Verb = "start" | "stop" | "restart" | "pin" | "unpin" | "reset-breaker";

const DONE: Record<Verb, string> = {
  start: "is starting",
  stop: "is stopping",
  restart: "restarts",
  pin: "stays loaded",
  unpin: "may be evicted again",
  "reset-breaker": "may be tried again",
};

/** What a stop means for the work there is, in words; nothing where there is none. */
export function atStake(model: Model): string {
  const running = model.in_flight ? `${plural(model.in_flight, "request")} in flight will end first.` : "";
  const waiting = model.queued ? `${plural(model.queued, "request")} in the queue will be refused.` : "";
  return [running, waiting].filter(Boolean).join("\n");
}

async function tell(model: Model, verb: Verb): Promise<void> {
  try {
    await post(`api/models/${part(model.name)}/${verb}`);
    toast(`${model.name} ${DONE[verb]}`);
  } catch (error) {
    toast(`${model.name}: ${reasonOf(error)}`, "failed");
  }
}

export const start = (model: Model): Promise<void> => tell(model, "start");
export const togglePin = (model: Model): Promise<void> => tell(model, model.pinned ? "unpin" : "pin");
export const resetBreaker = (model: Model): Promise<void> => tell(model, "reset-breaker");

export async function stop(model: Model): Promise<void> {
  const loading = model.state === "starting";
  const yes = await confirm({
    title: loading ? `Cancel loading ${model.name}?` : `Stop ${model.name}?`,
    text: atStake(model) || (loading ? "It is started again by the next request." : "Nothing is in flight. The next request starts it again."),
    action: loading ? "Cancel loading" : "Stop",
    dangerous: Boolean(model.in_flight || model.queued),
  });
  if (yes) await tell(model, "stop");
}

export async function restart(model: Model): Promise<void> {
  const running = model.in_flight ? `${plural(model.in_flight, "request")} in flight will end first.` : "Nothing is in flight.";
  const waiting = model.queued ? ` ${plural(model.queued, "request")} in the queue will wait for it.` : "";
  if (await confirm({ title: `Restart ${model.name}?`, text: running + waiting, action: "Restart" })) {
    await tell(model, "restart");
  }
}

const ERASING: Record<NonNullable<Erasure>, { title: string; text: string; action: string }> = {
  model: { title: "Delete", text: "It is taken out of the gateway.", action: "Delete" },
  file: { title: "Delete", text: "It was found in the folder of models, and is there as long as its file is.", action: "Delete" },
  edits: { title: "Take back the edits of", text: "It stays, as the configuration has it.", action: "Take them back" },
};

/** Whether something was deleted. The file goes only where that is asked for. */
export async function erase(model: Model, kind: NonNullable<Erasure>): Promise<boolean> {
  const words = ERASING[kind];
  const option = kind === "edits" || !model.path ? undefined : { label: `Delete the file, too: ${model.path}`, chosen: false };
  const yes = await confirm({
    title: `${words.title} ${model.name}?`,
    text: [words.text, atStake(model)].filter(Boolean).join("\n"),
    action: words.action,
    dangerous: true,
    option,
  });
  if (!yes) return false;
  if (kind === "file" && !option?.chosen) {
    toast(`Nothing was deleted: the file of ${model.name} stays`, "note");
    return false;
  }
  const asked = new URLSearchParams({ ...(option?.chosen && { file: "true" }), ...(Boolean(model.in_flight || model.queued) && { force: "true" }) });
  try {
    const { removed, files } = await remove<{ removed: boolean; files: string[] }>(`api/models/${part(model.name)}?${asked}`);
    toast(`${model.name} ${removed ? "was deleted" : "is as before its edits"}${files.length ? `, and ${files.join(", ")}` : ""}`);
    return true;
  } catch (error) {
    toast(`${model.name}: ${reasonOf(error)}`, "failed");
    return false;
  }
}
