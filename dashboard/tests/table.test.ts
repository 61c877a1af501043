import { mount } from "@vue/test-utils";
import { expect, it } from "vitest";
import DataTable from "../src/components/DataTable.vue";
import StateBadge from "../src/components/StateBadge.vue";
import { aModel } from "./made";

interface Row {
  id: string;
}

const props = {
  columns: [{ name: "id", label: "Id", sortable: true }, { name: "other", label: "Other" }],
  rows: [{ id: "a" }, { id: "b" }],
  rowKey: (row: Row) => row.id,
  caption: "Things",
  sort: "-id",
  opens: true,
};
const slots = { id: "<template #id=\"{ row }\">{{ row.id }}</template>" };
const table = () => mount(DataTable<Row>, { props, slots });

it("says what it is sorted by, and turns it round", async () => {
  const one = table();
  expect(one.get("th").attributes("aria-sort")).toBe("descending");
  await one.get("th button").trigger("click");
  expect(one.emitted("sort")).toEqual([["id"]]);
});

it("can be sorted on a phone, too", () => {
  expect(table().findAll(".sorts option").map((option) => option.attributes("value"))).toEqual(["-id", "id"]);
});

it("opens a row by mouse and by keyboard", async () => {
  const one = table();
  const [first, second] = one.findAll("tbody tr");
  await first!.trigger("click");
  const pressed = new KeyboardEvent("keydown", { key: "Enter", cancelable: true });
  second!.element.dispatchEvent(pressed);
  expect(pressed.defaultPrevented).toBe(true); // else it presses what gets the focus next
  expect(one.emitted("open")).toEqual([[{ id: "a" }], [{ id: "b" }]]);
});

it("tells a state by word and icon, not by colour alone", () => {
  const badge = mount(StateBadge, { props: { model: aModel({ state: "ready", in_flight: 2 }) } });
  expect(badge.text()).toBe("Busy");
  expect(badge.find("svg").exists()).toBe(true);
  expect(badge.attributes("title") ?? badge.get("[title]").attributes("title")).toBe("2 requests in flight");
});
