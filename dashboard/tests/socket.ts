/** A WebSocket whose other end is the test. */

export class Socket {
  static made: Socket[] = [];
  sent: { event: string; data: { topics?: string[] }; requestId: string }[] = [];
  closed = false;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: (() => void) | null = null;

  constructor(readonly url: string) {
    Socket.made.push(this);
  }

  static get last(): Socket {
    return Socket.made.at(-1)!;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  /** The gateway says so. */
  tell(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  hello(started = 1): void {
    this.tell({ type: "broadcast", event: "hello", data: { protocol: 1, version: "2.0.0", started, topics: [], heartbeat: 20 } });
  }

  answer(data: unknown, success = true): void {
    const { event, requestId } = this.sent.at(-1)!;
    const error = success ? null : { code: "nope", message: "not today" };
    this.tell({ type: "response", event, success, data, error, requestId });
  }

  change(topic: string, event: string, seq: number, data: unknown): void {
    this.tell({ type: "broadcast", event, topic, seq, data, timestamp: 1 });
  }
}

export const open = (url: string): WebSocket => new Socket(url) as unknown as WebSocket;
