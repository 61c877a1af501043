/** How long to wait before the next try: 1 s, doubled up to 10 s, and never the same for all tabs. */

export function pause(attempt: number, random = Math.random): number {
  const most = Math.min(10_000, 1000 * 2 ** Math.min(attempt, 10));
  return Math.round(most * (0.75 + 0.25 * random()));
}
