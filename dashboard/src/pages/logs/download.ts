/** Lines as a file of JSON on the reader's own disk. */

import type { LogEntry } from "../../types";

export function fileName(at: Date): string {
  return `llamaproxy-logs-${at.toISOString().slice(0, 19).replace(/[:T]/g, "-")}.json`;
}

export function download(lines: LogEntry[]): void {
  const address = URL.createObjectURL(new Blob([JSON.stringify(lines, null, 1)], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: address, download: fileName(new Date()) });
  link.click();
  URL.revokeObjectURL(address);
}
