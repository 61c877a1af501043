import { readdirSync, readFileSync } from "node:fs";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { amend, closeDrawer, find, here, href, openDrawer, query } from "../src/router";
import { ROUTES } from "../src/routes";

it("finds a page by the last part of its address", () => {
  expect(find(new URL(href("models", { model: "org/m" })))?.name).toBe("models");
  expect(find(new URL(href("")))?.name).toBe("dashboard");
  expect(find(new URL(href("nowhere")))).toBeNull();
});

describe("a drawer", () => {
  beforeEach(() => {
    amend({ id: null });
    vi.spyOn(history, "back").mockImplementation(() => undefined);
    vi.spyOn(history, "pushState");
    vi.spyOn(history, "replaceState");
  });

  it("stands in the address, as one more entry of the history", () => {
    openDrawer("id", "r1");
    openDrawer("id", "r1");
    expect([query.value.get("id"), history.state]).toEqual(["r1", { drawer: "id" }]);
    expect(history.pushState).toHaveBeenCalledOnce();
  });

  it("is closed by going back, once however often it is asked to", () => {
    openDrawer("id", "r1");
    closeDrawer("id");
    closeDrawer("id");
    expect(history.back).toHaveBeenCalledOnce();
    expect(new URL(here.value).search).toBe("");
  });

  it("leaves the page where it is when that was opened with it", () => {
    amend({ id: "r1" });
    closeDrawer("id");
    expect(history.back).not.toHaveBeenCalled();
    expect(history.replaceState).toHaveBeenCalledTimes(2);
    expect(query.value.has("id")).toBe(false);
  });
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
