/** What can be done to a model. Each asks where work would be lost, and says what came of it. */

import { part, post, reasonOf, remove } from "../../api";
import { confirm } from "../../confirm";
import { plural } from "../../format";
import { toast } from "../../toast";
import type { Model } from "../../types";

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

/** Whether it is gone. */
export async function erase(model: Model): Promise<boolean> {
  const yes = await confirm({
    title: `Delete ${model.name}?`,
    text: [atStake(model), "A model that was made here is taken out of the gateway; of any other the edits are taken back. Files stay."].filter(Boolean).join("\n"),
    action: "Delete",
    dangerous: true,
  });
  if (!yes) return false;
  try {
    const force = model.in_flight || model.queued ? "?force=true" : "";
    await remove(`api/models/${part(model.name)}${force}`);
    toast(`${model.name}: done`);
    return true;
  } catch (error) {
    toast(`${model.name}: ${reasonOf(error)}`, "failed");
    return false;
  }
}
