/** The conversation that is open: sending, the answer as it comes, stopping, trying again. */

import { computed, onScopeDispose, reactive, ref, shallowRef } from "vue";
import { toast } from "../../toast";
import { complete, type Hearer } from "./completion";
import { blank, type Conversation, Conversations, titleOf, type Turn } from "./conversations";
import { EMPTY, type Trouble, troubleIn } from "./words";

const kept = new Conversations(() => localStorage);

export function useTalk() {
  const all = shallowRef(kept.list());
  const open = ref<Conversation>(all.value[0] ?? blank(""));
  const trouble = shallowRef<Trouble | null>(null);
  const comment = ref("");
  const busy = ref(false);
  let turn: AbortController | null = null;
  let full = false;

  const isEmpty = computed(() => open.value.turns.length === 0);
  /** The question that has no answer, and gets none as it is. */
  const unanswered = computed(() => {
    const last = open.value.turns.at(-1);
    return !busy.value && last?.role === "user" ? last.content : null;
  });

  function keep(conversation: Conversation = open.value): void {
    if (!conversation.turns.length) return;
    conversation.at = Date.now();
    const done = kept.save(conversation);
    if (!done && !full) toast("This browser keeps no more: the conversation is lost when the page is closed.", "note");
    full = !done;
    all.value = kept.list();
  }

  /** It takes the place of a question that has no answer. */
  async function send(text: string): Promise<void> {
    if (busy.value || !text.trim()) return;
    while (open.value.turns.at(-1)?.role === "user") open.value.turns.pop();
    if (isEmpty.value) open.value.title = titleOf(text);
    open.value.turns.push({ role: "user", content: text });
    keep();
    await answer();
  }

  /** Ask again: what came of the last question is dropped. */
  async function again(): Promise<void> {
    if (busy.value) return;
    while (open.value.turns.at(-1)?.role === "assistant") open.value.turns.pop();
    if (open.value.turns.length) await answer();
  }

  /** Go on with the last answer where it ended: engines add to an answer that a conversation ends with. */
  async function goOn(): Promise<void> {
    const last = open.value.turns.at(-1);
    if (busy.value || !last || !mayGoOn(last)) return;
    await answer(last);
  }

  async function answer(begun?: Turn): Promise<void> {
    const conversation = open.value;
    const asked = { model: conversation.model, turns: [...conversation.turns], sampling: conversation.sampling };
    const live = begun ?? reactive<Turn>({ role: "assistant", content: "", model: conversation.model });
    if (begun) delete begun.ended;
    else conversation.turns.push(live);
    const pen = new Pen(live, (words) => (comment.value = words));
    const mine = (turn = new AbortController());
    trouble.value = null;
    comment.value = "";
    busy.value = true;
    try {
      const finish = await complete(asked, pen, mine.signal);
      pen.flush();
      if (finish === "length") live.ended = "length";
      if (!live.content && !live.reasoning) trouble.value = EMPTY;
    } catch (error) {
      live.ended = mine.signal.aborted ? "stopped" : "broken";
      if (!mine.signal.aborted) trouble.value = troubleIn(error);
    } finally {
      pen.flush();
      if (!live.content && !live.reasoning) conversation.turns = conversation.turns.filter((one) => one !== live);
      if (turn === mine) busy.value = false;
      keep(conversation);
    }
  }

  const stop = (): void => turn?.abort();

  function choose(conversation: Conversation): void {
    if (conversation.id === open.value.id) return; // else it lost the answer that comes
    stop();
    trouble.value = null;
    open.value = conversation;
  }

  /** With the model and the settings of the one before. */
  const begin = (): void => choose(blank(open.value.model, open.value.sampling));

  function forget(id: string): void {
    kept.remove(id);
    all.value = kept.list();
    if (open.value.id === id) replace(all.value[0]);
  }

  function forgetAll(): void {
    kept.clear();
    all.value = [];
    replace();
  }

  /** What has no turns is not kept: an answer that was still coming brings nothing back. */
  function replace(next = blank(open.value.model)): void {
    open.value.turns = [];
    choose(next);
  }

  onScopeDispose(stop);
  return reactive({ all, open, trouble, comment, busy, isEmpty, unanswered, send, again, goOn, stop, choose, begin, forget, forgetAll, keep });
}

export type Talk = ReturnType<typeof useTalk>;

/** Not where it thought: an engine would take the end of its thoughts for the beginning of its words. */
export const mayGoOn = ({ role, content, reasoning, ended }: Turn): boolean =>
  role === "assistant" && Boolean(ended && content && !reasoning);

/** Some engines say again what they go on with, some only what is new. */
export function continued(before: string, more: string): string {
  const known = before.trimEnd();
  if (more.startsWith(known)) return more;
  return known.startsWith(more) ? before : before + more;
}

/** Writes what comes at most once for each picture that is drawn: a fast model sends hundreds of words a second. */
class Pen implements Hearer {
  private written = "";
  private thoughts = "";
  private counted: Turn["stats"];
  private planned = 0;
  /** Of an answer that goes on: what it had before. */
  private readonly before: Pick<Turn, "content" | "stats">;

  constructor(private readonly live: Turn, readonly waiting: (words: string) => void) {
    this.before = { content: live.content, stats: live.stats };
  }

  text(text: string): void {
    this.written += text;
    this.plan();
  }

  reasoning(text: string): void {
    this.thoughts += text;
    this.plan();
  }

  stats(stats: NonNullable<Turn["stats"]>): void {
    const before = this.before.stats;
    this.counted = before ? { ...stats, firstMs: before.firstMs, tokens: (before.tokens ?? 0) + (stats.tokens ?? 0) } : stats;
    this.plan();
  }

  flush(): void {
    cancelAnimationFrame(this.planned);
    this.planned = 0;
    this.live.content = continued(this.before.content, this.written);
    if (this.thoughts) this.live.reasoning = (this.live.reasoning ?? "") + this.thoughts;
    if (this.counted) this.live.stats = this.counted;
    this.thoughts = "";
  }

  private plan(): void {
    this.planned ||= requestAnimationFrame(() => this.flush());
  }
}
