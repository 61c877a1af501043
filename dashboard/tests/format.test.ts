import { describe, expect, it } from "vitest";
import { bytes, clock, count, duration, milliseconds, percent, plural, rate, took, UNKNOWN } from "../src/format";

it.each([count, rate, percent, bytes, milliseconds, duration, took, clock])("%o says that it does not know", (format) => {
  for (const value of [null, undefined, NaN, Infinity]) expect(format(value)).toBe(UNKNOWN);
});

it.each([[0, "0"], [999, "999"], [9999, "9,999"], [12_345, "12.3k"], [999_400, "999k"], [1_000_000, "1M"], [4_560_000_000, "4.6G"]])(
  "counts %d as %s", (value, text) => expect(count(value)).toBe(text));

it.each([[0, "0"], [0.04, "0.0"], [12.34, "12.3"], [99.9, "99.9"], [123.4, "123"]])(
  "speaks of the speed %d as %s", (value, text) => expect(rate(value)).toBe(text));

it.each([[0, "0 B"], [1023, "1023 B"], [1024, "1 KiB"], [1536, "1.5 KiB"], [1023.6 * 1024, "1 MiB"], [5 * 2 ** 30, "5 GiB"], [2 ** 60, "1024 PiB"]])(
  "sizes %d as %s", (value, text) => expect(bytes(value)).toBe(text));

it.each([[0, "0 ms"], [0.4, "0 ms"], [8.2, "8 ms"], [999.4, "999 ms"], [999.9, "1.0 s"], [59_949, "59.9 s"], [60_000, "1 min"], [125_000, "2 min 5 s"]])(
  "takes %d ms for %s", (value, text) => expect(milliseconds(value)).toBe(text));

it.each([[-5, "0 s"], [59.4, "59 s"], [60, "1 min"], [3599, "59 min 59 s"], [3600, "1 h"], [5400, "1 h 30 min"], [90_000, "1 d 1 h"]])(
  "takes %d s for %s", (value, text) => expect(duration(value)).toBe(text));

it.each([[0.34, "340 ms"], [1.4, "1 s"], [75, "1 min 15 s"]])("says that what took %d s took %s", (value, text) => expect(took(value)).toBe(text));

describe("a time of day", () => {
  const noon = new Date(2026, 10, 21, 12, 3, 10).getTime();
  it("is bare today", () => expect(clock(noon, noon)).toBe("12:03:10"));
  it("has its day on all others", () => expect(clock(noon, noon + 86_400_000)).toBe("21 Nov 12:03:10"));
  it("has its year in all others", () => expect(clock(noon, noon + 60 * 86_400_000)).toBe("21 Nov 2026 12:03:10"));
});

it("knows one from many", () => expect([plural(1, "request"), plural(0, "request")]).toEqual(["1 request", "0 requests"]));
