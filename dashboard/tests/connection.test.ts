import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pause } from "../src/live/backoff";
import { Connection } from "../src/live/connection";
import { open, Socket } from "./socket";

const listener = { opened: vi.fn(), broadcast: vi.fn(), closed: vi.fn() };
let connection: Connection;

beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  Socket.made = [];
  connection = new Connection(() => "ws://gateway/llamaproxws", listener, open);
  connection.start();
});
afterEach(() => {
  connection.stop();
  vi.useRealTimers();
});

it("waits longer and longer, up to ten seconds, and not as long as others", () => {
  expect([0, 1, 2, 3, 4, 99].map((attempt) => pause(attempt, () => 1))).toEqual([1000, 2000, 4000, 8000, 10_000, 10_000]);
  expect(pause(0, () => 0)).toBeLessThan(pause(0, () => 1));
});

it("is open once the gateway has said hello", () => {
  expect(connection.isOpen).toBe(false);
  Socket.last.hello();
  expect(connection.isOpen).toBe(true);
  expect(listener.opened).toHaveBeenCalledOnce();
});

it("does not talk to a gateway of another protocol", () => {
  Socket.last.tell({ type: "broadcast", event: "hello", data: { protocol: 2 } });
  expect([connection.isOpen, Socket.last.closed]).toEqual([false, true]);
});

it.each(["", "{", "[]", "null", "3", '{"type":"broadcast"}', '{"type":"other","event":"x"}'])("takes %j for nothing", (text) => {
  Socket.last.hello();
  Socket.last.onmessage?.({ data: text });
  expect(listener.broadcast).not.toHaveBeenCalled();
});

describe("a question", () => {
  it("is answered", async () => {
    Socket.last.hello();
    const answer = connection.ask("system:info", {});
    Socket.last.answer({ fine: true });
    await expect(answer).resolves.toEqual({ fine: true });
  });
  it("may be refused", async () => {
    Socket.last.hello();
    const answer = connection.ask("system:info", {});
    Socket.last.answer(null, false);
    await expect(answer).rejects.toThrow("not today");
  });
  it("ends with the connection", async () => {
    Socket.last.hello();
    const answer = connection.ask("system:info", {});
    Socket.last.onclose?.();
    await expect(answer).rejects.toThrow("lost");
  });
  it("is not asked while nobody listens", async () => await expect(connection.ask("x", {})).rejects.toThrow("not connected"));
});

it("opens again after a pause, and again", () => {
  for (const made of [2, 3, 4]) {
    Socket.last.onclose?.();
    expect(listener.closed).toHaveBeenCalledTimes(made - 1);
    vi.advanceTimersByTime(10_000);
    expect(Socket.made).toHaveLength(made);
  }
});

it("begins with a short pause again once it was open", () => {
  for (let lost = 0; lost < 4; lost++) {
    Socket.last.onclose?.();
    vi.advanceTimersByTime(10_000);
  }
  Socket.last.hello();
  const made = Socket.made.length;
  Socket.last.onclose?.();
  vi.advanceTimersByTime(1000);
  expect(Socket.made).toHaveLength(made + 1);
});

it("notices a connection that died without a word", async () => {
  Socket.last.hello();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(Socket.last.sent.at(-1)?.event).toBe("ping");
  await vi.advanceTimersByTimeAsync(11_000);
  expect(listener.closed).toHaveBeenCalledOnce();
});

it("asks nothing of a connection that talks", async () => {
  Socket.last.hello();
  await vi.advanceTimersByTimeAsync(19_000);
  Socket.last.change("models", "models:status", 1, {});
  await vi.advanceTimersByTimeAsync(2000);
  expect(Socket.last.sent).toEqual([]);
});

it("tries no more once it is stopped", () => {
  connection.stop();
  vi.advanceTimersByTime(60_000);
  expect(Socket.made).toHaveLength(1);
});
