/** The frames of the gateway's WebSocket. Owns their shapes, and reading them without trust. */

export const PROTOCOL = 1;
export const VERSION = "1.0";

export interface Response {
  type: "response";
  event: string;
  success: boolean;
  data: unknown;
  error: { code: string; message: string } | null;
  requestId: string;
}

export interface Broadcast {
  type: "broadcast";
  event: string;
  data: unknown;
  timestamp: number;
  topic?: string;
  seq?: number;
}

export interface Hello {
  protocol: number;
  version: string;
  started: number;
  topics: string[];
  heartbeat: number;
}

export interface Subscribed {
  seq: Record<string, number>;
  snapshot: Record<string, unknown>;
}

export function request(event: string, data: unknown, requestId: string): string {
  return JSON.stringify({ type: "request", event, data, requestId, timestamp: Date.now(), version: VERSION });
}

/** The frame, or null for what is none. */
export function read(text: unknown): Response | Broadcast | null {
  if (typeof text !== "string") return null;
  try {
    const frame = JSON.parse(text) as Partial<Response | Broadcast> | null;
    if (typeof frame?.event !== "string") return null;
    return frame.type === "response" || frame.type === "broadcast" ? (frame as Response | Broadcast) : null;
  } catch {
    return null;
  }
}
