import { expect, it } from "vitest";
import { blocksOf, spansOf } from "../src/pages/chat/blocks";

it("tells code from prose", () => {
  expect(blocksOf("Look:\n```python\nprint(1)\n```\nDone.\n")).toEqual([
    { kind: "text", text: "Look:", language: "" },
    { kind: "code", text: "print(1)", language: "python" },
    { kind: "text", text: "Done.", language: "" },
  ]);
});

it("shows code while it is being written", () => {
  expect(blocksOf("```js\nlet x")).toEqual([{ kind: "code", text: "let x", language: "js" }]);
});

it("ends a block with a fence that is as long", () => {
  expect(blocksOf("````\n```\ninside\n```\n````").map(({ text }) => text)).toEqual(["```\ninside\n```"]);
});

it("takes three backticks in a line for what they are", () => {
  expect(blocksOf("```not a block```")).toEqual([{ kind: "text", text: "```not a block```", language: "" }]);
});

it("keeps every character of what looks like HTML", () => {
  expect(blocksOf("<script>alert(1)</script>")[0]?.text).toBe("<script>alert(1)</script>");
});

it("knows what stands out", () => {
  expect(spansOf("a **b** and `c*d`, 2 ** 3")).toEqual([
    { kind: "text", text: "a " }, { kind: "strong", text: "b" }, { kind: "text", text: " and " },
    { kind: "code", text: "c*d" }, { kind: "text", text: ", 2 ** 3" },
  ]);
});
