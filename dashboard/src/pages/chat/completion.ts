/** One streamed answer of /v1/chat/completions: what was asked, what comes, and why it ended. */

import { ApiError } from "../../api";
import { gatewayUrl } from "../../base";
import { session } from "../../session";
import type { Sampling, Stats, Turn } from "./conversations";
import { SseParser } from "./sse";

export interface Hearer {
  /** Why nothing comes yet, in the gateway's words. */
  waiting(words: string): void;
  reasoning(text: string): void;
  text(text: string): void;
  stats(stats: Stats): void;
}

interface Chunk {
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null; reasoning?: string | null }; finish_reason?: string | null }[];
  usage?: { completion_tokens?: number } | null;
  timings?: { predicted_n?: number; predicted_per_second?: number };
  error?: Refused;
}

/** The gateway's `code` is a word; an engine's own is a number, and its `type` the word. */
interface Refused {
  message?: string;
  code?: string | number;
  type?: string;
}

const wordOf = ({ code, type }: Refused): string => (typeof code === "string" ? code : (type ?? "unknown"));

export interface Asked {
  model: string;
  turns: readonly Turn[];
  sampling: Sampling;
}

/** What is sent of a conversation: answers with words in them, and of questions that follow one another the last. */
function said(turns: readonly Turn[]): Pick<Turn, "role" | "content">[] {
  const worded = turns.filter(({ role, content }) => role === "user" || content);
  const answered = worded.filter(({ role }, index) => role !== "user" || worded[index + 1]?.role !== "user");
  return answered.map(({ role, content }) => ({ role, content }));
}

export function bodyOf({ model, turns, sampling }: Asked): Record<string, unknown> {
  const { system, ...settings } = sampling;
  const messages = said(turns);
  if (system.trim()) messages.unshift({ role: "system" as never, content: system });
  const chosen = Object.entries(settings).filter(([, value]) => value !== null);
  return { model, messages, stream: true, stream_options: { include_usage: true }, ...Object.fromEntries(chosen) };
}

/** Why an answer ended. Raises ApiError; an error named AbortError where the signal said so. */
export async function complete(asked: Asked, hearer: Hearer, signal: AbortSignal): Promise<string> {
  const sent = performance.now();
  const response = await send(asked, signal);
  if (!response.ok) throw await refusal(response);
  if (!response.body) throw new ApiError("the answer has no body", response.status, "unknown");
  const answer = new Answer(hearer, sent);
  const parser = new SseParser();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      for (const piece of parser.take(value)) {
        if (piece.kind === "comment") answer.comment(piece.text);
        else answer.chunk(piece.text);
      }
    }
  } catch (error) {
    void reader.cancel().catch(() => undefined); // nobody reads the rest: the engine need not go on
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError("the connection broke in the middle of the answer", 0, "broken");
  }
  return answer.end();
}

async function send(asked: Asked, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(gatewayUrl("v1/chat/completions"), {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(bodyOf(asked)),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError("the gateway cannot be reached", 0, "unreachable");
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const said = `${response.status} ${response.statusText}`.trim();
  if (response.status === 401) session.needed = true;
  try {
    const { error } = (await response.json()) as Chunk;
    return new ApiError(error?.message || said, response.status, wordOf(error ?? {}));
  } catch {
    return new ApiError(said, response.status, "unknown"); // no JSON: something before the gateway answered
  }
}

class Answer {
  private first: number | null = null;
  private pieces = 0;
  private finish: string | null = null;
  private done = false;

  constructor(private readonly hearer: Hearer, private readonly sent: number) {}

  comment(words: string): void {
    if (words && this.first === null) this.hearer.waiting(words);
  }

  chunk(data: string): void {
    if (data.trim() === "[DONE]") return void (this.done = true);
    const chunk = read(data);
    if (chunk.error) throw new ApiError(chunk.error.message || "the answer broke off", 0, wordOf(chunk.error));
    const choice = chunk.choices?.[0];
    this.finish = choice?.finish_reason ?? this.finish;
    const thought = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
    if (thought) this.hearer.reasoning(thought);
    if (choice?.delta?.content) this.hearer.text(choice.delta.content);
    if (thought || choice?.delta?.content) this.count();
    if (chunk.usage || chunk.timings) this.tell(chunk);
  }

  end(): string {
    if (!this.done && !this.finish) throw new ApiError("the answer was cut off", 0, "truncated");
    return this.finish ?? "stop";
  }

  /** Engines send one token in a piece, nearly always; the end tells the truth. */
  private count(): void {
    const now = performance.now();
    this.first ??= now;
    this.pieces += 1;
    const seconds = (now - this.first) / 1000;
    const perSecond = this.pieces > 1 && seconds > 0.2 ? (this.pieces - 1) / seconds : null;
    this.hearer.stats({ firstMs: this.first - this.sent, tokens: this.pieces, perSecond });
  }

  private tell({ usage, timings }: Chunk): void {
    if (this.first === null) return;
    const tokens = usage?.completion_tokens ?? timings?.predicted_n ?? this.pieces;
    const seconds = (performance.now() - this.first) / 1000;
    const perSecond = timings?.predicted_per_second ?? (tokens > 1 && seconds > 0.2 ? (tokens - 1) / seconds : null);
    this.hearer.stats({ firstMs: this.first - this.sent, tokens, perSecond });
  }
}

function read(data: string): Chunk {
  try {
    const chunk: unknown = JSON.parse(data);
    if (typeof chunk === "object" && chunk !== null) return chunk as Chunk;
  } catch {
    // said below
  }
  throw new ApiError("the answer is no stream of a chat", 0, "unknown");
}
