import { expect, it } from "vitest";
import { filled, SNIPPETS } from "../src/pages/connect/snippets";

const place = { base: "https://box.example/llm/", model: "org/qwen-3:4b", key: "lp-x" };

it.each(SNIPPETS.map((snippet) => [snippet.id, snippet] as const))("%s has the address and all else filled in", (_, snippet) => {
  const text = filled(snippet, place);
  expect(text).toContain("https://box.example/llm");
  expect(text).toContain("lp-x");
  expect(text).not.toMatch(/\{\{|\}\}$|undefined/);
});

it("gives anthropic the address that its package adds /v1 to", () => {
  const snippet = SNIPPETS.find(({ id }) => id === "anthropic");
  expect(snippet && filled(snippet, place)).toContain('base_url="https://box.example/llm"');
});
