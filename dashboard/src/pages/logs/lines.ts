/** Lines in their order, and how one is spelled. Pure. */

import type { LogEntry } from "../../types";

/** Lines in memory, at most. */
export const KEPT = 5000;

/** Both, the oldest first, none twice; of too many the newest. */
export function merged(known: LogEntry[], more: LogEntry[], most = KEPT): LogEntry[] {
  if (!more.length) return known;
  const last = known.at(-1)?.id ?? -1;
  const follows = more.every((entry, index) => entry.id > (more[index - 1]?.id ?? last));
  if (follows) return [...known, ...more].slice(-most);
  const all = new Map([...known, ...more].map((entry) => [entry.id, entry]));
  return [...all.values()].sort((a, b) => a.id - b.id).slice(-most);
}

/** Those after the line with this id, of lines in order. */
export function after(entries: LogEntry[], id: number): LogEntry[] {
  let first = entries.length;
  while (first > 0 && entries[first - 1]!.id > id) first -= 1;
  return entries.slice(first);
}

/** Where a line with this id is, or would be. */
export function placeOf(entries: LogEntry[], id: number): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle]!.id < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Everything that does not show by itself, or changes the direction of what follows, spelled out. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => {
    if (character === "\n") return "⏎";
    if (character === "\t") return "⇥";
    return `\\u{${character.codePointAt(0)!.toString(16)}}`;
  });
}

/** The same for several lines. */
export const visibleLines = (text: string): string => text.split("\n").map(visible).join("\n");

/** 12:03:10.123 */
export function timeOf(entry: LogEntry): string {
  const date = new Date(entry.timestamp * 1000);
  return `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
