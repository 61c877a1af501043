/** Where nobody looked, a chart draws nothing. Pure. */

type Value = number | null;

/** The columns, the first of them times, with a row of nothing between two that are more than `most` seconds apart. */
export function holed(columns: Value[][], most: number): Value[][] {
  const times = columns[0] ?? [];
  const next = (index: number): number => times[index + 1] ?? -Infinity;
  const holes = new Set(times.flatMap((time, index) => (next(index) - (time ?? 0) > most ? [index] : [])));
  if (!holes.size) return columns;
  return columns.map((column) => column.flatMap((value, index) => {
    if (!holes.has(index)) return [value];
    return [value, column === times ? ((value ?? 0) + next(index)) / 2 : null];
  }));
}
