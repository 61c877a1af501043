/**
 * Conversations, kept in this browser and nowhere else.
 *
 * Owns how many there may be, how large they may become, and what of a strange storage is believed. The oldest go first.
 */

export interface Stats {
  /** Milliseconds from sending to the first word. */
  firstMs: number | null;
  tokens: number | null;
  perSecond: number | null;
}

/** stopped: by a person; length: it had as many tokens as it may; broken: it failed under way. */
export const EARLY = ["stopped", "length", "broken"] as const;
export type Early = (typeof EARLY)[number];

export interface Turn {
  role: "user" | "assistant";
  content: string;
  reasoning?: string;
  model?: string;
  stats?: Stats;
  /** Why it ended before its end. */
  ended?: Early;
}

export interface Sampling {
  system: string;
  temperature: number | null;
  top_p: number | null;
  max_tokens: number | null;
}

export interface Conversation {
  id: string;
  title: string;
  /** When it was last used, in milliseconds since the epoch. */
  at: number;
  model: string;
  sampling: Sampling;
  turns: Turn[];
}

export const MOST_CONVERSATIONS = 50;
export const MOST_TURNS = 400;
/** Characters of all of them together; browsers keep 5 MB at least, of two bytes each at worst. */
export const MOST_CHARACTERS = 2_000_000;

const KEY = "llamaproxy.chat";
const LONGEST_TITLE = 60;

export const plainSampling = (): Sampling => ({ system: "", temperature: null, top_p: null, max_tokens: null });

export function blank(model: string, sampling: Sampling = plainSampling(), at = Date.now()): Conversation {
  return { id: `${at.toString(36)}-${Math.random().toString(36).slice(2, 8)}`, title: "", at, model, sampling: { ...sampling }, turns: [] };
}

export function titleOf(text: string): string {
  const line = text.trim().split("\n")[0] ?? "";
  return line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE - 1).trimEnd()}…` : line;
}

type Keeper = Pick<Storage, "getItem" | "setItem">;

/** Reads again before each change: other tabs keep theirs in the same place. */
export class Conversations {
  constructor(private readonly storage: () => Keeper) {}

  /** The newest first. Raises nothing: what cannot be read is not there. */
  list(): Conversation[] {
    try {
      return understood(JSON.parse(this.storage().getItem(KEY) ?? "[]"));
    } catch {
      return [];
    }
  }

  /** Whether it could be kept: storage may be full, or forbidden. */
  save(conversation: Conversation): boolean {
    const others = this.list().filter((one) => one.id !== conversation.id);
    return this.write([conversation, ...others]);
  }

  remove(id: string): boolean {
    return this.write(this.list().filter((one) => one.id !== id));
  }

  clear(): boolean {
    return this.write([]);
  }

  private write(all: Conversation[]): boolean {
    for (let kept = bounded(all); ; kept = kept.slice(0, -1)) {
      try {
        this.storage().setItem(KEY, JSON.stringify(kept));
        return kept.length > 0 || all.length === 0;
      } catch {
        if (!kept.length) return false; // full for all that: the next one tries with the oldest left out
      }
    }
  }
}

function bounded(all: Conversation[]): Conversation[] {
  const sorted = [...all].sort((a, b) => b.at - a.at).slice(0, MOST_CONVERSATIONS);
  let size = 0;
  return sorted
    .map((one) => ({ ...one, turns: one.turns.slice(-MOST_TURNS) }))
    .filter((one) => (size += JSON.stringify(one).length) <= MOST_CHARACTERS);
}

function understood(found: unknown): Conversation[] {
  if (!Array.isArray(found)) return [];
  return bounded(found.map(conversationIn).filter((one) => one !== null));
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const numberOr = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) ? value : null);

function conversationIn(value: unknown): Conversation | null {
  if (!isRecord(value) || typeof value.id !== "string" || !Array.isArray(value.turns)) return null;
  const sampling = isRecord(value.sampling) ? value.sampling : {};
  return {
    id: value.id,
    title: text(value.title),
    at: numberOr(value.at) ?? 0,
    model: text(value.model),
    sampling: {
      system: text(sampling.system),
      temperature: numberOr(sampling.temperature),
      top_p: numberOr(sampling.top_p),
      max_tokens: numberOr(sampling.max_tokens),
    },
    turns: value.turns.map(turnIn).filter((turn) => turn !== null),
  };
}

function turnIn(value: unknown): Turn | null {
  if (!isRecord(value) || (value.role !== "user" && value.role !== "assistant")) return null;
  const turn: Turn = { role: value.role, content: text(value.content) };
  if (text(value.reasoning)) turn.reasoning = text(value.reasoning);
  if (text(value.model)) turn.model = text(value.model);
  const ended = EARLY.find((one) => one === value.ended);
  if (ended) turn.ended = ended;
  if (isRecord(value.stats)) {
    const { firstMs, tokens, perSecond } = value.stats;
    turn.stats = { firstMs: numberOr(firstMs), tokens: numberOr(tokens), perSecond: numberOr(perSecond) };
  }
  return turn;
}
