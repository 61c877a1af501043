/**
 * One WebSocket to the gateway that is opened again and again.
 *
 * Owns hello, requests and their answers, back-off, and noticing a connection that died silently.
 * What the frames mean is the store's to know.
 */

import { pause } from "./backoff";
import { type Broadcast, type Hello, PROTOCOL, read, request, type Response } from "./protocol";

const ANSWER_MS = 10_000;

/** What a connection tells its owner. */
export interface Listener {
  opened(hello: Hello): void;
  broadcast(frame: Broadcast): void;
  /** Not open any more, or could not be opened; the next try is already planned. */
  closed(): void;
}

interface Waiting {
  resolve: (data: unknown) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

export class Refused extends Error {
  constructor(message: string, readonly code: string) {
    super(message);
    this.name = "Refused";
  }
}

export class Connection {
  private socket: WebSocket | null = null;
  private greeted = false;
  private attempt = 0;
  private number = 0;
  private heard = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setInterval> | undefined;
  private waiting = new Map<string, Waiting>();

  constructor(
    private readonly url: () => string,
    private readonly listener: Listener,
    private readonly open: (url: string) => WebSocket = (url) => new WebSocket(url),
  ) {}

  get isOpen(): boolean {
    return this.greeted;
  }

  /** Open it now, without waiting for the end of a pause. */
  start(): void {
    clearTimeout(this.retry);
    if (this.socket) return;
    const socket = this.open(this.url());
    this.socket = socket;
    socket.onmessage = (event) => this.socket === socket && this.take(event.data);
    socket.onclose = () => this.socket === socket && this.lose();
    socket.onerror = () => undefined; // a close follows
  }

  stop(): void {
    clearTimeout(this.retry);
    const socket = this.socket;
    this.forget("the page closed the connection");
    socket?.close();
  }

  /** Raises Refused where the gateway says no, or nothing. */
  ask<T>(event: string, data: unknown): Promise<T> {
    if (!this.socket || !this.greeted) return Promise.reject(new Refused("not connected", "not_connected"));
    const id = String((this.number += 1));
    this.socket.send(request(event, data, id));
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Refused(`no answer to ${event}`, "timeout"));
      }, ANSWER_MS);
      this.waiting.set(id, { resolve: (answer) => resolve(answer as T), reject, timer });
    });
  }

  private take(text: unknown): void {
    const frame = read(text);
    if (!frame) return;
    this.heard = Date.now();
    if (frame.type === "response") this.answered(frame);
    else if (frame.event === "hello") this.greet(frame.data as Hello);
    else if (this.greeted) this.listener.broadcast(frame);
  }

  private greet(hello: Hello): void {
    if (hello?.protocol !== PROTOCOL) return void this.socket?.close(); // a newer gateway: the page has to be loaded again
    this.greeted = true;
    this.attempt = 0;
    const beat = Math.max(5, hello.heartbeat || 20) * 1000;
    clearInterval(this.watch);
    this.watch = setInterval(() => this.check(beat), beat);
    this.listener.opened(hello);
  }

  /** The browser answers the gateway's pings by itself and tells nobody: the page has to ask, too. */
  private check(beat: number): void {
    if (Date.now() - this.heard < beat) return;
    this.ask("ping", {}).catch(() => {
      if (Date.now() - this.heard >= beat) this.lose();
    });
  }

  private answered(frame: Response): void {
    const waiting = this.waiting.get(frame.requestId);
    if (!waiting) return;
    this.waiting.delete(frame.requestId);
    clearTimeout(waiting.timer);
    if (frame.success) waiting.resolve(frame.data);
    else waiting.reject(new Refused(frame.error?.message ?? "refused", frame.error?.code ?? "unknown"));
  }

  private lose(): void {
    const socket = this.socket;
    this.forget("the connection was lost");
    socket?.close();
    this.retry = setTimeout(() => this.start(), pause(this.attempt));
    this.attempt += 1;
    this.listener.closed();
  }

  private forget(reason: string): void {
    this.socket = null;
    this.greeted = false;
    clearInterval(this.watch);
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const one of waiting) {
      clearTimeout(one.timer);
      one.reject(new Refused(reason, "not_connected"));
    }
  }
}
