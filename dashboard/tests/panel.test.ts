import { mount } from "@vue/test-utils";
import { reactive } from "vue";
import { afterEach, describe, expect, it } from "vitest";
import Panel from "../src/components/Panel.vue";
import { store } from "../src/live";

afterEach(() => Object.assign(store.status, { mode: "connecting" }));

const slots = { default: "<p>content</p>", empty: "<p>do this next</p>" };
const cell = (value: unknown, error: string | null = null) => reactive({ value, at: value === null ? 0 : 1, error });

describe("a panel of live data", () => {
  it("says that it loads", () => expect(mount(Panel, { props: { cell: cell(null) }, slots }).text()).toBe("Loading"));

  it("says that it loads as long as something else of it is missing", () => {
    expect(mount(Panel, { props: { cell: cell([1]), loading: true }, slots }).text()).toBe("Loading");
    expect(mount(Panel, { props: { cell: cell([1]), loading: false }, slots }).text()).toBe("content");
  });

  it("says why it failed, and tries again", async () => {
    const panel = mount(Panel, { props: { cell: cell(null, "the database is locked") }, slots });
    expect(panel.get("[role=alert]").text()).toContain("the database is locked");
    await panel.get("button").trigger("click");
    expect(panel.emitted("retry")).toHaveLength(1);
  });

  it("says what to do where there is nothing", () => {
    expect(mount(Panel, { props: { cell: cell([]), empty: true }, slots }).text()).toBe("do this next");
  });

  it("keeps old content in sight, and says how old it is", () => {
    store.status.mode = "offline";
    const panel = mount(Panel, { props: { cell: cell([1]), title: "Models" }, slots });
    expect(panel.classes()).toContain("stale");
    expect(panel.text()).toMatch(/from .*\d\d:\d\d:\d\d.*content/s);
  });

  it("is plain where all is well", () => {
    const panel = mount(Panel, { props: { cell: cell([1]) }, slots });
    expect([panel.text(), panel.classes("stale")]).toEqual(["content", false]);
  });
});

it("has its own states without a cell", () => {
  expect(mount(Panel, { props: { loading: true }, slots }).text()).toBe("Loading");
  expect(mount(Panel, { props: { loading: true, error: "no" }, slots }).text()).toContain("no");
  expect(mount(Panel, { props: {}, slots }).text()).toBe("content");
});
