import { describe, expect, it } from "vitest";
import { type Piece, SseParser } from "../src/pages/chat/sse";

const encoded = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The same bytes, `size` at a time. */
function parsed(bytes: Uint8Array, size: number): Piece[] {
  const parser = new SseParser();
  const pieces: Piece[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(...parser.take(bytes.slice(at, at + size)));
  return pieces;
}

const data = (...texts: string[]): Piece[] => texts.map((text) => ({ kind: "data", text }));

describe.each([1, 2, 3, 5, 1000])("cut into pieces of %d bytes", (size) => {
  it("reads characters of several bytes", () => {
    expect(parsed(encoded("data: Grüße 🦙\n\ndata: 世界\n\n"), size)).toEqual(data("Grüße 🦙", "世界"));
  });

  it.each(["\n", "\r\n", "\r"])("takes %o for the end of a line", (end) => {
    const text = ["data: a", "data: b", "", "data: c", "", ""].join(end);
    expect(parsed(encoded(`${text}:`), size)).toEqual(data("a\nb", "c"));
  });

  it("tells comments from data", () => {
    expect(parsed(encoded(": loading qwen, 40 %\n\ndata: {}\n\n"), size)).toEqual([
      { kind: "comment", text: "loading qwen, 40 %" }, ...data("{}"),
    ]);
  });
});

it("leaves out other fields, one blank after the colon, and events without data", () => {
  expect(parsed(encoded("event: message\nid: 7\ndata:  x\ndata\n\nretry: 5\n\n"), 1000)).toEqual(data(" x\n"));
});

it("does not believe in an event that has not ended", () => {
  expect(parsed(encoded("data: whole\n\ndata: half\n"), 4)).toEqual(data("whole"));
});

it("does not gather a line without end", () => {
  const parser = new SseParser();
  const piece = encoded("x".repeat(2 * 1024 ** 2));
  parser.take(piece);
  parser.take(piece);
  expect(() => parser.take(piece)).toThrow("without end");
});
