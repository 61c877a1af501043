import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Store } from "../src/live/store";
import { aModel } from "./made";
import { open, Socket } from "./socket";

let store: Store;
const names = (): string[] | undefined => store.cell("models").value?.map(({ name }) => name);
const created = (seq: number, name: string): void => Socket.last.change("models", "models:created", seq, { models: [aModel({ name })] });

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", () => new Promise(() => undefined));
  Socket.made = [];
  store = new Store(() => "ws://gateway/llamaproxws", open);
  store.want("models");
  store.start();
  Socket.last.hello();
  await vi.advanceTimersByTimeAsync(0);
  Socket.last.answer({ seq: { models: 1 }, snapshot: { models: { models: [aModel({ name: "a" })] } } });
  await vi.advanceTimersByTimeAsync(0);
});
afterEach(() => {
  store.stop();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

it("slow: shows what has come every ten seconds, all of it", () => {
  store.setPace("slow");
  vi.advanceTimersByTime(10_000);
  created(2, "b");
  created(3, "c");
  expect(names()).toEqual(["a"]);
  vi.advanceTimersByTime(12_000);
  expect(names()).toEqual(["a", "b", "c"]);
});

it("off: shows what there was when the page was opened", () => {
  store.setPace("off");
  created(2, "b");
  vi.advanceTimersByTime(60_000);
  expect(names()).toEqual(["a"]);
});

it("live again: shows at once what was held back", () => {
  store.setPace("off");
  created(2, "b");
  store.setPace("live");
  expect(names()).toEqual(["a", "b"]);
  created(3, "c");
  expect(names()).toEqual(["a", "b", "c"]);
});
