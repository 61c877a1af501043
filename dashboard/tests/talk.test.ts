import { mount } from "@vue/test-utils";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { effectScope, type EffectScope } from "vue";
import { Conversations } from "../src/pages/chat/conversations";
import Message from "../src/pages/chat/Message.vue";
import { continued, mayGoOn, type Talk, useTalk } from "../src/pages/chat/talk";
import { ENDED } from "../src/pages/chat/words";

let scope: EffectScope;
let talk: Talk;
let bodies: { messages: { content: string }[] }[];
let answer: (signal: AbortSignal) => Response;

const chunk = (content: string): string => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const whole = (content: string): Response => new Response(`${chunk(content)}data: [DONE]\n\n`);
const contents = (): string[] => talk.open.turns.map(({ content }) => content);

beforeEach(() => {
  localStorage.clear();
  bodies = [];
  answer = () => whole("Hi");
  vi.stubGlobal("fetch", async (_: string, { body, signal }: { body: string; signal: AbortSignal }) => {
    bodies.push(JSON.parse(body));
    return answer(signal);
  });
  scope = effectScope();
  talk = scope.run(useTalk) as Talk;
  talk.open.model = "qwen";
});
afterEach(() => {
  scope.stop();
  vi.unstubAllGlobals();
});

/** An answer that has begun, and ends when somebody stops it. */
function endless(signal: AbortSignal): Response {
  return new Response(new ReadableStream({
    start(stream) {
      stream.enqueue(new TextEncoder().encode(chunk("Half")));
      signal.addEventListener("abort", () => stream.error(signal.reason));
    },
  }));
}

it("answers, and keeps both", async () => {
  await talk.send("Hello");
  expect(contents()).toEqual(["Hello", "Hi"]);
  expect([talk.busy, talk.trouble, talk.open.title]).toEqual([false, null, "Hello"]);
  expect(new Conversations(() => localStorage).list()[0]?.turns.map(({ content }) => content)).toEqual(["Hello", "Hi"]);
});

it("goes on from what was said", async () => {
  await talk.send("Hello");
  await talk.send("And?");
  expect(bodies[1]?.messages.map(({ content }) => content)).toEqual(["Hello", "Hi", "And?"]);
});

it("keeps the half that was there when it is stopped", async () => {
  answer = endless;
  const sending = talk.send("Hello");
  await vi.waitFor(() => expect(contents()).toEqual(["Hello", "Half"]));
  talk.stop();
  await sending;
  expect(talk.open.turns[1]).toMatchObject({ content: "Half", ended: "stopped" });
  expect([talk.busy, talk.trouble]).toEqual([false, null]);
});

it("says what went wrong, keeps the question, and tries again", async () => {
  answer = () => Response.json({ error: { message: "no memory", code: "model_out_of_memory" } }, { status: 503 });
  await talk.send("Hello");
  expect(contents()).toEqual(["Hello"]);
  expect(talk.trouble?.title).toBe("There is not enough memory for this model");
  answer = () => whole("Now");
  await talk.again();
  expect([contents(), talk.trouble]).toEqual([["Hello", "Now"], null]);
});

it("puts the next question in the place of one that has no answer", async () => {
  answer = () => Response.json({ error: { message: "no memory", code: "model_out_of_memory" } }, { status: 503 });
  await talk.send("Helo");
  expect(talk.unanswered).toBe("Helo");
  answer = () => whole("Hi");
  await talk.send("Hello");
  expect([contents(), talk.unanswered, talk.open.title]).toEqual([["Hello", "Hi"], null, "Hello"]);
  expect(bodies[1]?.messages.map(({ content }) => content)).toEqual(["Hello"]);
});

it("knows after the page was loaded again that a question has no answer", async () => {
  answer = () => Response.json({ error: { message: "no" } }, { status: 503 });
  await talk.send("Hello");
  const later = scope.run(useTalk) as Talk;
  expect([later.unanswered, later.trouble]).toEqual(["Hello", null]);
  answer = () => whole("Hi");
  await later.again();
  expect([later.open.turns.map(({ content }) => content), later.unanswered]).toEqual([["Hello", "Hi"], null]);
});

it("goes on where an answer was cut off, in the same answer", async () => {
  answer = () => new Response(`data: ${JSON.stringify({ choices: [{ delta: { content: "One, " }, finish_reason: "length" }] })}\n\ndata: [DONE]\n\n`);
  await talk.send("Count");
  const cut = talk.open.turns[1]!;
  expect([cut.ended, mayGoOn(cut)]).toEqual(["length", true]);
  answer = () => whole("two.");
  await talk.goOn();
  expect(bodies[1]?.messages.map(({ content }) => content)).toEqual(["Count", "One, "]);
  expect(talk.open.turns).toMatchObject([{ content: "Count" }, { content: "One, two.", stats: { tokens: 2 } }]);
  expect([talk.open.turns[1]?.ended, new Conversations(() => localStorage).list()[0]?.turns]).toEqual([undefined, talk.open.turns]);
});

it.each([
  ["One, ", "two.", "One, two."],
  ["One, ", "One, two.", "One, two."],
  ["One,\n", "One, and", "One, and"],
  ["One, ", "On", "One, "],
  ["One", "", "One"],
  ["", "Two", "Two"],
])("knows an answer that is said again from what is new in it: %o, %o", (before, more, all) => expect(continued(before, more)).toBe(all));

it("does not go on from thoughts, nor from what is whole", () => {
  const turn = { role: "assistant", content: "Hi" } as const;
  expect([mayGoOn(turn), mayGoOn({ ...turn, ended: "length", reasoning: "Hm." })]).toEqual([false, false]);
  expect(mayGoOn({ role: "assistant", content: "", ended: "stopped" })).toBe(false);
});

it("marks what broke off under way, and says why", async () => {
  answer = () => new Response(chunk("Half"));
  await talk.send("Hello");
  expect([talk.open.turns[1]?.ended, talk.trouble?.title]).toEqual(["broken", "The answer was cut off"]);
});

it.each(["stopped", "length", "broken"] as const)("says of an answer that it is not whole: %s", (ended) => {
  const turn = { role: "assistant" as const, content: "Half", ended };
  const page = mount(Message, { props: { turn, last: true, continues: true } });
  expect(page.text()).toContain(ENDED[ended]);
  expect(page.findAll("button").filter((one) => one.text() === "Continue")).toHaveLength(1);
  expect(mount(Message, { props: { turn, last: true } }).text()).not.toContain("Continue");
});

it("answers the last question again in place of the answer there was", async () => {
  await talk.send("Hello");
  answer = () => whole("Hello to you");
  await talk.again();
  expect(contents()).toEqual(["Hello", "Hello to you"]);
  expect(bodies[1]?.messages).toHaveLength(1);
});

it("stops an answer that nobody looks at any more", async () => {
  answer = endless;
  const sending = talk.send("Hello");
  await vi.waitFor(() => expect(contents()).toEqual(["Hello", "Half"]));
  talk.begin();
  await sending;
  expect([talk.busy, talk.isEmpty, talk.open.model]).toEqual([false, true, "qwen"]);
  expect(talk.all[0]?.turns.at(-1)).toMatchObject({ content: "Half", ended: "stopped" });
});

it("forgets a conversation, and opens the next", async () => {
  await talk.send("One");
  const one = talk.open.id;
  talk.begin();
  await talk.send("Two");
  talk.forget(talk.open.id);
  expect(talk.open.id).toBe(one);
  talk.forgetAll();
  expect([talk.all, talk.isEmpty]).toEqual([[], true]);
});

it("goes on answering when the open conversation is chosen", async () => {
  answer = endless;
  const sending = talk.send("Hello");
  await vi.waitFor(() => expect(contents()).toEqual(["Hello", "Half"]));
  talk.choose(talk.all[0]!);
  expect([talk.busy, contents()]).toEqual([true, ["Hello", "Half"]]);
  talk.stop();
  await sending;
});

it.each(["forget", "forgetAll"] as const)("does not bring back by an answer what is gone: %s", async (how) => {
  answer = endless;
  const sending = talk.send("Hello");
  await vi.waitFor(() => expect(contents()).toEqual(["Hello", "Half"]));
  talk[how](talk.open.id);
  await sending;
  expect([talk.all, new Conversations(() => localStorage).list(), talk.isEmpty]).toEqual([[], [], true]);
});

it("says that an answer was empty", async () => {
  answer = () => new Response("data: [DONE]\n\n");
  await talk.send("Hello");
  expect([contents(), talk.trouble?.title]).toEqual([["Hello"], "The answer is empty"]);
});

it("shows what a model wrote as text", () => {
  const content = "<img src=x onerror=alert(1)>\n```html\n<script>alert(2)</script>\n```";
  const page = mount(Message, { props: { turn: { role: "assistant", content, reasoning: "<b>Hm</b>", model: "<i>m</i>" } } });
  expect(page.text()).toContain("<img src=x onerror=alert(1)>");
  expect(page.findAll("img, script, b, i")).toEqual([]);
});
