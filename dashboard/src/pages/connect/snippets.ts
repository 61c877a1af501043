/** What a client needs to be told. The texts lie in `snippets.json`, which the gateway's tests run. Pure. */

import snippets from "./snippets.json";

export interface Snippet {
  id: string;
  title: string;
  language: string;
  /** What comes before: an installation, or a word. */
  setup: string;
  code: string[];
}

export interface Place {
  /** The gateway's address, with its path and a slash at its end. */
  base: string;
  model: string;
  key: string;
}

/** A key is needed by most clients, also where the gateway asks for none. */
export const NO_KEY = "none";
export const MODEL_HINT = "MODEL";

export const SNIPPETS: readonly Snippet[] = snippets;

/** Names and addresses have no characters that would need quoting: the gateway's `check_name` sees to it. */
export function filled(snippet: Snippet, { base, model, key }: Place): string {
  const values: Record<string, string> = { base, model, key, origin: base.replace(/\/$/, "") };
  return snippet.code.join("\n").replace(/\{\{(\w+)\}\}/g, (_, name: string) => values[name] ?? "");
}
