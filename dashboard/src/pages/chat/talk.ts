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

  function keep(conversation: Conversation = open.value): void {
    if (!conversation.turns.length) return;
    conversation.at = Date.now();
    const done = kept.save(conversation);
    if (!done && !full) toast("This browser keeps no more: the conversation is lost when the page is closed.", "note");
    full = !done;
    all.value = kept.list();
  }

  async function send(text: string): Promise<void> {
    if (busy.value || !text.trim()) return;
    open.value.title ||= titleOf(text);
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

  async function answer(): Promise<void> {
    const conversation = open.value;
    const asked = { model: conversation.model, turns: [...conversation.turns], sampling: conversation.sampling };
    const live = reactive<Turn>({ role: "assistant", content: "", model: conversation.model });
    conversation.turns.push(live);
    const pen = new Pen(live, (words) => (comment.value = words));
    const mine = (turn = new AbortController());
    trouble.value = null;
    comment.value = "";
    busy.value = true;
    try {
      await complete(asked, pen, mine.signal);
      pen.flush();
      if (!live.content && !live.reasoning) trouble.value = EMPTY;
    } catch (error) {
      if (mine.signal.aborted) live.stopped = true;
      else trouble.value = troubleIn(error);
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
  return reactive({ all, open, trouble, comment, busy, isEmpty, send, again, stop, choose, begin, forget, forgetAll, keep });
}

export type Talk = ReturnType<typeof useTalk>;

/** Writes what comes at most once for each picture that is drawn: a fast model sends hundreds of words a second. */
class Pen implements Hearer {
  private written = "";
  private thoughts = "";
  private counted: Turn["stats"];
  private planned = 0;

  constructor(private readonly live: Turn, readonly waiting: (words: string) => void) {}

  text(text: string): void {
    this.written += text;
    this.plan();
  }

  reasoning(text: string): void {
    this.thoughts += text;
    this.plan();
  }

  stats(stats: NonNullable<Turn["stats"]>): void {
    this.counted = stats;
    this.plan();
  }

  flush(): void {
    cancelAnimationFrame(this.planned);
    this.planned = 0;
    this.live.content += this.written;
    if (this.thoughts) this.live.reasoning = (this.live.reasoning ?? "") + this.thoughts;
    if (this.counted) this.live.stats = this.counted;
    this.written = this.thoughts = "";
  }

  private plan(): void {
    this.planned ||= requestAnimationFrame(() => this.flush());
  }
}
