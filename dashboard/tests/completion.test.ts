import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../src/api";
import { bodyOf, complete } from "../src/pages/chat/completion";
import { plainSampling, type Stats } from "../src/pages/chat/conversations";
import { session } from "../src/session";

const asked = { model: "qwen", turns: [{ role: "user" as const, content: "Hello" }], sampling: plainSampling() };
const heard = { waiting: vi.fn(), reasoning: vi.fn(), text: vi.fn(), stats: vi.fn<(stats: Stats) => void>() };
let answer: (signal: AbortSignal) => Response | Promise<Response>;

beforeEach(() => {
  vi.clearAllMocks();
  session.needed = false;
  vi.stubGlobal("fetch", async (_: string, { signal }: { signal: AbortSignal }) => answer(signal));
});
afterEach(() => vi.unstubAllGlobals());

const chunk = (delta: object, more: object = {}): string => `data: ${JSON.stringify({ choices: [{ delta, ...more }] })}\n\n`;
const stream = (...parts: string[]): Response => new Response(parts.join(""), { headers: { "Content-Type": "text/event-stream" } });
const run = (signal = new AbortController().signal): Promise<string> => complete(asked, heard, signal);
const said = (part: { mock: { calls: unknown[][] } }): unknown => part.mock.calls.map(([text]) => text).join("");

async function refusal(): Promise<ApiError> {
  const error = await run().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

it("hears what comes, thoughts apart, and how fast it came", async () => {
  answer = () => stream(
    ": loading qwen, 40 %\n\n", chunk({ role: "assistant", content: null }), chunk({ reasoning_content: "Hm." }), chunk({ content: "Good " }),
    chunk({ content: "day" }), chunk({}, { finish_reason: "stop" }),
    `data: ${JSON.stringify({ choices: [], usage: { completion_tokens: 7 }, timings: { predicted_per_second: 42 } })}\n\n`, "data: [DONE]\n\n",
  );
  expect(await run()).toBe("stop");
  expect([said(heard.waiting), said(heard.reasoning), said(heard.text)]).toEqual(["loading qwen, 40 %", "Hm.", "Good day"]);
  const last = heard.stats.mock.calls.at(-1)?.[0];
  expect([last?.tokens, last?.perSecond]).toEqual([7, 42]);
  expect(last?.firstMs).toBeGreaterThanOrEqual(0);
});

it("says why it ended", async () => {
  answer = () => stream(chunk({ content: "x" }, { finish_reason: "length" }), "data: [DONE]\n\n");
  expect(await run()).toBe("length");
});

describe("what goes wrong", () => {
  it("tells an error of the gateway", async () => {
    answer = () => Response.json({ error: { message: "there is no model 'x'", code: "model_not_found" } }, { status: 404 });
    expect(await refusal()).toMatchObject({ message: "there is no model 'x'", code: "model_not_found", status: 404 });
  });

  it("tells an error of the engine, whose code is a number", async () => {
    answer = () => Response.json({ error: { message: "too long", code: 400, type: "exceed_context_size_error" } }, { status: 400 });
    expect((await refusal()).code).toBe("exceed_context_size_error");
  });

  it("tells an error in the middle of the stream, after what came before", async () => {
    answer = () => stream(chunk({ content: "Half" }), `data: ${JSON.stringify({ error: { message: "broke off", code: "bad_upstream_response" } })}\n\n`);
    expect(await refusal()).toMatchObject({ message: "broke off", code: "bad_upstream_response" });
    expect(said(heard.text)).toBe("Half");
  });

  it("does not take a torn answer for a whole one", async () => {
    answer = () => stream(chunk({ content: "Half" }));
    expect((await refusal()).code).toBe("truncated");
  });

  it("tells what is no answer of a gateway", async () => {
    answer = () => new Response("<h1>Bad Gateway</h1>", { status: 502, statusText: "Bad Gateway" });
    expect((await refusal()).message).toBe("502 Bad Gateway");
    answer = () => stream("data: <h1>\n\n");
    expect((await refusal()).message).toContain("no stream of a chat");
  });

  it("tells a gateway that is not there", async () => {
    answer = () => Promise.reject(new TypeError("Failed to fetch"));
    expect((await refusal()).code).toBe("unreachable");
  });

  it("asks for the key where one is needed", async () => {
    answer = () => Response.json({ error: { message: "a key is needed", code: "invalid_api_key" } }, { status: 401 });
    await refusal();
    expect(session.needed).toBe(true);
  });

  it("ends when it is told to", async () => {
    const turn = new AbortController();
    answer = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
    const running = run(turn.signal);
    turn.abort();
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("what is sent", () => {
  it("is what was said, and nothing that was not chosen", () => {
    const turns = [{ role: "user" as const, content: "Hi" }, { role: "assistant" as const, content: "Hello", reasoning: "Hm." }];
    const body = bodyOf({ model: "qwen", turns, sampling: plainSampling() });
    expect(body).toEqual({
      model: "qwen", stream: true, stream_options: { include_usage: true },
      messages: [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }],
    });
  });

  it("never has two questions in succession, nor an answer without words", () => {
    const turns = [
      { role: "user" as const, content: "Helo" }, { role: "user" as const, content: "Hello" },
      { role: "assistant" as const, content: "", reasoning: "Hm." }, { role: "user" as const, content: "Hi?" },
    ];
    expect(bodyOf({ ...asked, turns }).messages).toEqual([{ role: "user", content: "Hi?" }]);
  });

  it("has the chosen settings, zero too, and the system prompt first", () => {
    const body = bodyOf({ ...asked, sampling: { system: "Be brief.", temperature: 0, top_p: 0.9, max_tokens: null } });
    expect(body).toMatchObject({ temperature: 0, top_p: 0.9 });
    expect(body).not.toHaveProperty("max_tokens");
    expect((body.messages as object[])[0]).toEqual({ role: "system", content: "Be brief." });
  });
});
