import { beforeEach, describe, expect, it } from "vitest";
import { blank, type Conversation, Conversations, MOST_CHARACTERS, MOST_CONVERSATIONS, MOST_TURNS, titleOf } from "../src/pages/chat/conversations";

const KEY = "llamaproxy.chat";
let kept: Conversations;

beforeEach(() => {
  localStorage.clear();
  kept = new Conversations(() => localStorage);
});

function talk(at: number, ...texts: string[]): Conversation {
  return { ...blank("qwen", undefined, at), title: texts[0] ?? "", turns: texts.map((content) => ({ role: "user", content })) };
}

const titles = (): string[] => kept.list().map(({ title }) => title);

it("keeps conversations, the newest first", () => {
  kept.save(talk(1, "old"));
  expect(kept.save(talk(2, "new"))).toBe(true);
  expect(titles()).toEqual(["new", "old"]);
});

it("keeps all there is of one", () => {
  const one = talk(1, "Hello");
  one.sampling = { system: "Be kind.", temperature: 0.5, top_p: null, max_tokens: 100 };
  one.turns.push({
    role: "assistant", content: "Hi", reasoning: "Hm.", model: "qwen", ended: "length", stats: { firstMs: 5, tokens: 1, perSecond: null },
  });
  kept.save(one);
  expect(kept.list()).toEqual([one]);
});

it("takes the place of the same one, and leaves those of other tabs", () => {
  const mine = talk(1, "mine");
  kept.save(mine);
  new Conversations(() => localStorage).save(talk(2, "another tab's"));
  kept.save({ ...mine, title: "mine, longer", at: 3 });
  expect(titles()).toEqual(["mine, longer", "another tab's"]);
});

it("forgets one, or all", () => {
  const one = talk(1, "one");
  kept.save(one);
  kept.save(talk(2, "two"));
  kept.remove(one.id);
  expect(titles()).toEqual(["two"]);
  kept.clear();
  expect(titles()).toEqual([]);
});

describe("bounds", () => {
  it("holds so many conversations", () => {
    for (let at = 0; at <= MOST_CONVERSATIONS; at += 1) kept.save(talk(at, `n${at}`));
    expect(kept.list()).toHaveLength(MOST_CONVERSATIONS);
    expect(titles()).not.toContain("n0");
  });

  it("holds so many turns of each, the last ones", () => {
    kept.save(talk(1, ...Array.from({ length: MOST_TURNS + 5 }, (_, at) => `t${at}`)));
    expect(kept.list()[0]?.turns).toHaveLength(MOST_TURNS);
    expect(kept.list()[0]?.turns[0]?.content).toBe("t5");
  });

  it("holds so many characters, the newest conversations", () => {
    const half = "x".repeat(MOST_CHARACTERS / 2 - 500);
    for (const at of [1, 2, 3]) kept.save({ ...talk(at, half), title: `n${at}` });
    expect(titles()).toEqual(["n3", "n2"]);
  });

  it("lets the oldest go where the browser has less room", () => {
    const room = 1500;
    const small = new Conversations(() => ({
      getItem: (key) => localStorage.getItem(key),
      setItem(key, value) {
        if (value.length > room) throw new DOMException("full", "QuotaExceededError");
        localStorage.setItem(key, value);
      },
    }));
    for (const at of [1, 2, 3]) expect(small.save({ ...talk(at, "x".repeat(500)), title: `n${at}` })).toBe(true);
    expect(titles()).toEqual(["n3", "n2"]);
    expect(small.save(talk(4, "x".repeat(room)))).toBe(false);
  });
});

it("says so where storage is forbidden", () => {
  const none = new Conversations(() => {
    throw new DOMException("denied", "SecurityError");
  });
  expect(none.list()).toEqual([]);
  expect(none.save(talk(1, "lost"))).toBe(false);
});

it.each(["not JSON", "{}", "null", '[1, null, {"id": 5}, {"id": "x"}]'])("believes nothing of %o", (text) => {
  localStorage.setItem(KEY, text);
  expect(kept.list()).toEqual([]);
});

it("believes of a strange conversation what can be believed", () => {
  const strange = { id: "x", title: 5, turns: [{ role: "system", content: "no" }, { role: "user", content: {}, ended: "soon" }, 7], sampling: { temperature: "hot" } };
  localStorage.setItem(KEY, JSON.stringify([strange]));
  expect(kept.list()).toEqual([{ ...blank("", undefined, 0), id: "x", turns: [{ role: "user", content: "" }] }]);
});

it("is called by the first line of what was asked", () => {
  expect(titleOf("  Why?\nBecause.")).toBe("Why?");
  expect(titleOf("x".repeat(100))).toHaveLength(60);
});
