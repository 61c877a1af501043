/**
 * What the page knows of the gateway, kept up to date.
 *
 * Owns which topics are wanted, their values and how old they are, and the choice between WebSocket and REST: while the
 * socket is closed the topics that are wanted are asked for every two seconds.
 */

import { reactive, shallowReactive } from "vue";
import { ApiError, get, reasonOf } from "../api";
import { session } from "../session";
import { Connection } from "./connection";
import type { Broadcast, Hello, Subscribed } from "./protocol";
import { TOPICS, type TopicName, type Topics } from "./topics";

const POLL_MS = 2000;

/** How old what is shown may become, in milliseconds. */
export type Pace = "live" | "slow" | "off";
const PACES: Record<Pace, number> = { live: 0, slow: 10_000, off: Infinity };

/** connecting: nothing known yet; live: by WebSocket; polling: by REST; offline: neither answers. */
export type Mode = "connecting" | "live" | "polling" | "offline";

export interface Cell<T> {
  value: T | null;
  /** Milliseconds since the epoch of the last word, 0 for none. */
  at: number;
  error: string | null;
}

type Change<T> = (value: T) => void;
type Open = ConstructorParameters<typeof Connection>[2];

export class Store {
  readonly status = reactive({ mode: "connecting" as Mode, version: "", heard: 0, reason: "" });
  private readonly cells = new Map<TopicName, Cell<unknown>>();
  private readonly wanted = new Map<TopicName, number>();
  private readonly seq = new Map<TopicName, number>();
  private readonly hearers = new Map<TopicName, Set<Change<unknown>>>();
  private readonly connection: Connection;
  /** What has come since it was shown, where it is not shown at once. */
  private readonly held = new Map<TopicName, unknown>();
  private pace: Pace = "live";
  private shown = 0;
  private started = 0;
  private asking = 0;
  private planned = false;
  /** The last subscription was refused: it is asked for again. */
  private refused = false;
  /** What REST is asked for now, and has not answered yet. */
  private readonly underway = new Set<TopicName>();
  private poller: ReturnType<typeof setInterval> | undefined;

  constructor(url: () => string, open?: Open) {
    this.connection = new Connection(url, {
      opened: (hello) => this.opened(hello),
      broadcast: (frame) => this.broadcast(frame),
      closed: () => void this.poll(),
    }, open);
  }

  start(): void {
    this.connection.start();
    this.poller = setInterval(() => this.tick(), POLL_MS);
  }

  stop(): void {
    clearInterval(this.poller);
    this.connection.stop();
  }

  /** Try again at once: somebody signed in, the tab is seen again, or a person asks. */
  retry(): void {
    this.connection.start();
    if (this.connection.isOpen) void this.subscribe();
    else void this.poll();
  }

  /** live: what changes is shown at once; slow: every ten seconds; off: when a page asks anew. */
  setPace(pace: Pace): void {
    this.pace = pace;
    this.tick();
  }

  private tick(): void {
    if (this.refused && this.connection.isOpen && !document.hidden) void this.subscribe();
    if (Date.now() - this.shown < PACES[this.pace]) return;
    this.shown = Date.now();
    for (const [name, value] of this.held) this.put(name, value);
    void this.poll();
  }

  cell<Name extends TopicName>(name: Name): Cell<Topics[Name]> {
    let found = this.cells.get(name);
    if (!found) this.cells.set(name, (found = shallowReactive({ value: null, at: 0, error: null })));
    return found as Cell<Topics[Name]>;
  }

  /** Want a topic until the function that is returned is called. */
  want(name: TopicName): () => void {
    this.wanted.set(name, (this.wanted.get(name) ?? 0) + 1);
    this.plan();
    return () => {
      const left = (this.wanted.get(name) ?? 1) - 1;
      if (left) this.wanted.set(name, left);
      else this.wanted.delete(name);
      this.plan();
    };
  }

  /** Hear of every new value of a topic that somebody wants. */
  hear<Name extends TopicName>(name: Name, hearer: Change<Topics[Name]>): () => void {
    const hearers = this.hearers.get(name) ?? new Set();
    this.hearers.set(name, hearers.add(hearer as Change<unknown>));
    return () => hearers.delete(hearer as Change<unknown>);
  }

  /** Several wishes of one page become one subscription. */
  private plan(): void {
    if (this.planned) return;
    this.planned = true;
    queueMicrotask(() => {
      this.planned = false;
      if (this.connection.isOpen) void this.subscribe();
      else void this.poll();
    });
  }

  private opened(hello: Hello): void {
    this.status.version = hello.version;
    if (hello.started !== this.started) this.seq.clear();
    this.started = hello.started;
    void this.subscribe();
  }

  private async subscribe(): Promise<void> {
    const topics = [...this.wanted.keys()];
    const turn = (this.asking += 1);
    this.seq.clear(); // what comes before the snapshot is in it
    this.refused = false;
    try {
      const { seq, snapshot } = await this.connection.ask<Subscribed>("subscribe", { topics });
      if (turn !== this.asking) return;
      this.seen("live");
      for (const name of topics) {
        if (!(name in snapshot)) continue;
        this.seq.set(name, seq[name] ?? 0);
        this.put(name, TOPICS[name].snapshot(snapshot[name]));
      }
    } catch (error) {
      if (turn !== this.asking || !this.connection.isOpen) return;
      this.refused = true;
      this.fail(topics, reasonOf(error));
    }
  }

  private broadcast(frame: Broadcast): void {
    const name = frame.topic as TopicName;
    const last = this.seq.get(name);
    const cell = this.cells.get(name);
    if (last === undefined || frame.seq === undefined || !cell) return;
    if (frame.seq <= last) return;
    if (frame.seq > last + 1) return void this.subscribe();
    this.seq.set(name, frame.seq);
    this.seen("live");
    const apply = TOPICS[name].apply as (value: unknown, event: string, data: unknown) => unknown;
    const value = apply(this.held.get(name) ?? cell.value, frame.event, frame.data);
    if (this.pace === "live") this.put(name, value);
    else this.held.set(name, value);
  }

  private async poll(): Promise<void> {
    if (this.connection.isOpen || document.hidden || session.needed) return;
    const names = [...this.wanted.keys()].filter((name) => TOPICS[name].rest);
    await Promise.all(names.map((name) => this.fetch(name)));
  }

  private async fetch(name: TopicName): Promise<void> {
    const rest = TOPICS[name].rest;
    if (!rest || this.underway.has(name)) return;
    this.underway.add(name);
    try {
      const value = rest.read(await get<unknown>(rest.path));
      if (this.connection.isOpen) return;
      this.seen("polling");
      this.put(name, value);
    } catch (error) {
      if (this.connection.isOpen) return;
      const lost = !(error instanceof ApiError) || error.status === 0 || error.status >= 502;
      if (lost) Object.assign(this.status, { mode: "offline", reason: reasonOf(error) });
      this.fail([name], reasonOf(error));
    } finally {
      this.underway.delete(name);
    }
  }

  private seen(mode: Mode): void {
    Object.assign(this.status, { mode, heard: Date.now(), reason: "" });
  }

  private put(name: TopicName, value: unknown): void {
    this.held.delete(name);
    Object.assign(this.cell(name), { value, at: Date.now(), error: null });
    for (const hearer of this.hearers.get(name) ?? []) hearer(value);
  }

  private fail(names: TopicName[], error: string): void {
    for (const name of names) this.cell(name).error = error;
  }
}
