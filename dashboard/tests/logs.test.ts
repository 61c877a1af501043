import { describe, expect, it } from "vitest";
import { fileName } from "../src/pages/logs/download";
import { clock } from "../src/format";
import { asked, type Filter, judge, reach, sourceOf } from "../src/pages/logs/filter";
import { AT_ONCE, Intake } from "../src/pages/logs/intake";
import { idIn } from "../src/pages/logs/opened";
import { after, KEPT, merged, placeOf, visible, visibleLines } from "../src/pages/logs/lines";
import type { LogEntry } from "../src/types";

const line = (id: number, given: Partial<LogEntry> = {}): LogEntry => ({
  id, timestamp: id, level: "info", source: "server.app", model: null, request_id: null, message: `line ${id}`,
  context: null, ...given,
});
const lines = (from: number, to: number): LogEntry[] => Array.from({ length: to - from }, (_, at) => line(from + at));
const ids = (entries: LogEntry[]): number[] => entries.map(({ id }) => id);

describe("a filter", () => {
  const all: Filter = { level: "debug", source: "", request: "", text: "", regex: false };
  const fits = (filter: Partial<Filter>, entry: Partial<LogEntry>): boolean => judge({ ...all, ...filter }).matches(line(1, entry));

  it("lets everything through at first", () => expect(fits({}, { level: "debug" })).toBe(true));

  it("wants a level, or worse", () => {
    const levels = (["debug", "info", "warning", "error"] as const).filter((level) => fits({ level: "warning" }, { level }));
    expect(levels).toEqual(["warning", "error"]);
  });

  it("knows the gateway's own lines from those of engines", () => {
    expect(fits({ source: "gateway" }, { source: "engine", model: "a" })).toBe(false);
    expect(fits({ source: "gateway" }, { source: "backends.pool", model: "a" })).toBe(true);
  });

  it("wants all lines about a model, whoever said them", () => {
    const source = sourceOf("a");
    expect(fits({ source }, { source: "engine", model: "a" })).toBe(true);
    expect(fits({ source }, { source: "backends.pool", model: "a" })).toBe(true);
    expect(fits({ source }, { model: "b" })).toBe(false);
  });

  it("wants the lines of a request", () => {
    expect(fits({ request: "r1" }, { request_id: "r1" })).toBe(true);
    expect(fits({ request: "r1" }, { request_id: "r12" })).toBe(false);
  });

  it("finds text in whatever case, also in a traceback", () => {
    expect(fits({ text: "boom" }, { message: "BOOM" })).toBe(true);
    expect(fits({ text: "boom" }, { context: "Traceback: boom" })).toBe(true);
    expect(fits({ text: "b.om" }, { message: "boom" })).toBe(false);
  });

  it("finds by expression", () => expect(fits({ text: "B.+m", regex: true }, { message: "boom" })).toBe(true));

  it("says kindly what is wrong with an expression, and hides nothing for it", () => {
    const { error, matches } = judge({ ...all, text: "(", regex: true });
    expect(error).toMatch(/^This is not a regular expression yet: [a-z].*\. All lines are shown\.$/);
    expect(matches(line(1))).toBe(true);
  });

  it("says how far back it has looked", () => {
    const filter = { ...all, text: "x" };
    const at = Date.now() - 1000;
    expect(reach(all, 5, lines(0, 3))).toBe("");
    expect(reach(filter, null, [])).toBe("In all lines that are kept");
    expect(reach(filter, at * 1000, [])).toBe(`Back to ${clock(at)}`);
    expect(reach({ ...filter, regex: true }, 5, [line(1, { timestamp: at / 1000 })])).toBe(`Only the 1 line loaded here, back to ${clock(at)}`);
  });

  it("asks the gateway for what that knows, too", () => {
    const filter = { ...all, level: "error" as const, source: sourceOf("a b"), request: "r1", text: "x" };
    expect(asked(filter, 10, 7)).toBe("limit=10&level=error&model=a+b&request_id=r1&q=x&before=7");
    expect(asked({ ...filter, regex: true }, 10)).not.toContain("q=");
    expect(asked({ ...all, source: "gateway" }, 10)).toBe("limit=10&level=debug");
  });
});

describe("lines", () => {
  it("stay in order, and none is there twice", () => {
    expect(ids(merged(lines(3, 5), lines(1, 4)))).toEqual([1, 2, 3, 4]);
    expect(ids(merged(lines(1, 3), lines(3, 5)))).toEqual([1, 2, 3, 4]);
  });

  it("are not more than so many, the newest", () => {
    expect(ids(merged(lines(0, KEPT), lines(KEPT, KEPT + 2))).slice(0, 1)).toEqual([2]);
    expect(merged(lines(5, KEPT + 5), lines(0, 5))).toHaveLength(KEPT);
    expect(ids(merged(lines(0, 3), lines(3, 5), 2))).toEqual([3, 4]);
  });

  it("are found by where they would be", () => {
    expect(ids(after(lines(1, 5), 2))).toEqual([3, 4]);
    expect([0, 3, 99].map((id) => placeOf(lines(2, 5), id))).toEqual([0, 1, 3]);
  });

  it("show what does not show by itself", () => {
    expect(visible("a\u001b[31m\u202e\tb\nc")).toBe("a\\u{1b}[31m\\u{202e}⇥b⏎c");
    expect(visibleLines("a\nb\u0007")).toBe("a\nb\\u{7}");
    expect(visible("naïve 日本 🦙")).toBe("naïve 日本 🦙");
  });
});

describe("a flood", () => {
  function intake() {
    const taken: LogEntry[][] = [];
    const frames: (() => void)[] = [];
    let dropped = 0;
    const into = new Intake((entries, left) => {
      taken.push(entries);
      dropped += left;
    }, (work) => frames.push(work));
    return { into, taken, frames, dropped: () => dropped, frame: () => frames.shift()!() };
  }

  it("comes in with one frame, however many messages there were", () => {
    const { into, taken, frames, frame } = intake();
    for (const id of [1, 2, 3]) into.put(lines(id, id + 1));
    expect(frames).toHaveLength(1);
    frame();
    expect(taken.map(ids)).toEqual([[1, 2, 3]]);
  });

  it("is bounded for each frame; the rest comes with the next", () => {
    const { into, taken, frames, frame } = intake();
    into.put(lines(0, AT_ONCE + 1));
    frame();
    frame();
    expect(taken.map((one) => one.length)).toEqual([AT_ONCE, 1]);
    expect(frames).toHaveLength(0);
  });

  it("keeps the newest of what waits, and counts what it leaves out", () => {
    const { into, taken, dropped, frame } = intake();
    into.put(lines(0, KEPT), 3);
    into.put(lines(KEPT, KEPT + 10));
    frame();
    expect(taken[0]![0]!.id).toBe(10);
    expect(dropped()).toBe(13);
  });

  it("is forgotten when the log is cleared", () => {
    const { into, taken, frame } = intake();
    into.put(lines(0, 5));
    into.clear();
    frame();
    expect(taken).toEqual([]);
  });
});

it.each([["1790000000000000", 1790000000000000], ["0", 0], ["", null], [null, null], ["x", null], ["1".repeat(17), null]])(
  "reads the id of a line from an address: %s", (text, id) => expect(idIn(text)).toBe(id),
);

it("names an export by its time", () => {
  expect(fileName(new Date("2026-01-02T03:04:05.6Z"))).toBe("llamaproxy-logs-2026-01-02-03-04-05.json");
});
