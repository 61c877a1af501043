import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Store } from "../src/live/store";
import { session } from "../src/session";
import { aModel } from "./made";
import { open, Socket } from "./socket";

let store: Store;
let answer: () => Response;
const asked = vi.fn();

const flush = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);
const names = (): string[] | undefined => store.cell("models").value?.map(({ name }) => name);
const snapshot = (seq: number, ...known: string[]): object =>
  ({ seq: { models: seq }, snapshot: { models: { models: known.map((name) => aModel({ name })) } } });

beforeEach(() => {
  vi.useFakeTimers();
  Socket.made = [];
  asked.mockClear();
  session.needed = false;
  answer = () => Response.json({ models: [aModel({ name: "rest" })] });
  vi.stubGlobal("fetch", async (url: string) => {
    asked(url);
    return answer();
  });
  store = new Store(() => "ws://gateway/llamaproxws", open);
});
afterEach(() => {
  store.stop();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

async function live(): Promise<() => void> {
  const leave = store.want("models");
  store.start();
  Socket.last.hello();
  await flush();
  Socket.last.answer(snapshot(5, "a"));
  await flush();
  return leave;
}

describe("over the WebSocket", () => {
  it("shows the snapshot, then what changes", async () => {
    await live();
    expect([names(), store.status.mode, store.status.version]).toEqual([["a"], "live", "2.0.0"]);
    Socket.last.change("models", "models:created", 6, { models: [aModel({ name: "b" })] });
    expect(names()).toEqual(["a", "b"]);
  });

  it("subscribes once to what several parts of a page want", async () => {
    store.want("requests");
    await live();
    const subscriptions = Socket.last.sent.filter(({ event }) => event === "subscribe");
    expect(subscriptions.at(-1)?.data.topics).toEqual(["requests", "models"]);
  });

  it("lets go of what nobody wants any more", async () => {
    const leave = await live();
    store.want("metrics");
    leave();
    await flush();
    expect(Socket.last.sent.at(-1)?.data.topics).toEqual(["metrics"]);
  });

  it("asks again where a change is missing", async () => {
    await live();
    Socket.last.change("models", "models:created", 8, { models: [aModel({ name: "c" })] });
    expect(names()).toEqual(["a"]);
    Socket.last.answer(snapshot(9, "a", "b", "c"));
    await flush();
    expect(names()).toEqual(["a", "b", "c"]);
  });

  it("asks once, however many changes come before the answer", async () => {
    await live();
    const before = Socket.last.sent.length;
    for (const seq of [8, 9, 10]) Socket.last.change("models", "models:created", seq, { models: [] });
    expect(Socket.last.sent.length).toBe(before + 1);
  });

  it("does not take a change twice", async () => {
    await live();
    Socket.last.change("models", "models:deleted", 5, { names: ["a"] });
    expect(names()).toEqual(["a"]);
  });

  it("keeps what it has while a refused subscription is told", async () => {
    await live();
    store.want("metrics");
    await flush();
    Socket.last.answer(null, false);
    await flush();
    expect([names(), store.cell("metrics").error]).toEqual([["a"], "not today"]);
  });

  it("asks again for what was refused, and goes on from there", async () => {
    await live();
    store.want("metrics");
    await flush();
    Socket.last.answer(null, false);
    await vi.advanceTimersByTimeAsync(2000);
    Socket.last.answer(snapshot(7, "a", "b"));
    await flush();
    expect([names(), store.cell("models").error]).toEqual([["a", "b"], null]);
    const sent = Socket.last.sent.length;
    await vi.advanceTimersByTimeAsync(4000);
    expect(Socket.last.sent.length).toBe(sent);
  });

  it("subscribes anew after the gateway has restarted", async () => {
    await live();
    Socket.last.onclose?.();
    await vi.advanceTimersByTimeAsync(1000);
    Socket.last.hello(2);
    await flush();
    Socket.last.answer(snapshot(0, "z"));
    await flush();
    Socket.last.change("models", "models:created", 1, { models: [aModel({ name: "y" })] });
    expect(names()).toEqual(["z", "y"]);
  });
});

describe("while there is none", () => {
  it("asks over REST, every two seconds", async () => {
    store.want("models");
    store.start();
    await flush();
    expect([names(), store.status.mode]).toEqual([["rest"], "polling"]);
    await vi.advanceTimersByTimeAsync(4000);
    expect(asked).toHaveBeenCalledTimes(3);
  });

  it("waits for an answer before it asks again", async () => {
    vi.stubGlobal("fetch", (url: string) => {
      asked(url);
      return new Promise(() => undefined);
    });
    store.want("models");
    store.start();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked).toHaveBeenCalledOnce();
  });

  it("asks for nothing that nobody wants", async () => {
    store.start();
    await vi.advanceTimersByTimeAsync(4000);
    expect(asked).not.toHaveBeenCalled();
  });

  it("stops as soon as the socket is there", async () => {
    await live();
    const before = asked.mock.calls.length;
    await vi.advanceTimersByTimeAsync(6000);
    expect(asked.mock.calls.length).toBe(before);
  });

  it("says since when it is disconnected, and keeps the values", async () => {
    await live();
    const heard = store.status.heard;
    answer = () => {
      throw new TypeError("network");
    };
    Socket.last.onclose?.();
    await flush();
    expect([store.status.mode, store.status.heard, names()]).toEqual(["offline", heard, ["a"]]);
    expect(store.cell("models").error).toContain("cannot be reached");
  });

  it("takes a refusal for no disconnection, and asks for the key", async () => {
    answer = () => Response.json({ error: { message: "an API key is needed", code: "invalid_api_key" } }, { status: 401 });
    store.want("models");
    store.start();
    await flush();
    expect([session.needed, store.status.mode, store.cell("models").error]).toEqual([true, "connecting", "an API key is needed"]);
    await vi.advanceTimersByTimeAsync(6000);
    expect(asked).toHaveBeenCalledOnce();
  });
});
