import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { find, href } from "../src/router";
import { ROUTES } from "../src/routes";

it("finds a page by the last part of its address", () => {
  expect(find(new URL(href("models", { model: "org/m" })))?.name).toBe("models");
  expect(find(new URL(href("")))?.name).toBe("dashboard");
  expect(find(new URL(href("nowhere")))).toBeNull();
});

it("has a letter of its own for each page", () => {
  expect(new Set(ROUTES.map(({ key }) => key)).size).toBe(ROUTES.length);
});

it("has no page that the gateway does not serve", () => {
  const served = readFileSync("../llamaproxy/server/page.py", "utf-8");
  for (const { name } of ROUTES) expect(served).toMatch(new RegExp(`/${name}\\b`));
});

it("puts no text into the page as HTML, and no style into a template", () => {
  const files = readdirSync("src", { recursive: true, encoding: "utf-8" }).filter((name) => name.endsWith(".vue"));
  const wrong = files.filter((name) => /v-html|innerHTML|\sstyle="/.test(readFileSync(`src/${name}`, "utf-8")));
  expect(files.length).toBeGreaterThan(10);
  expect(wrong).toEqual([]);
});

it("has no address of a registry in its lock file", () => {
  expect(readFileSync("package-lock.json", "utf-8")).not.toMatch(/"resolved"|\/-\/[\w.-]+\.tgz/);
});
