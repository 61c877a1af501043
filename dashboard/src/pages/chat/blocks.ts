/** What a model wrote, in parts that can be shown as text: prose and code blocks, and within prose what stands out. Pure. */

export interface Block {
  kind: "text" | "code";
  text: string;
  language: string;
}

export interface Span {
  kind: "text" | "strong" | "code";
  text: string;
}

const FENCE = /^ {0,3}(```+|~~~+) *([\w+#.-]*)[^`]*$/;
const SPANS = /(`[^`\n]+`|\*\*[^*\n]+\*\*)/;

/** A block that has not ended yet, as while it is being written, is code already. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let open: { fence: string; language: string } | null = null;
  let lines: string[] = [];
  const close = (kind: Block["kind"], language = ""): void => {
    const content = kind === "text" ? lines.join("\n").replace(/^\n+|\s+$/g, "") : lines.join("\n");
    if (content || kind === "code") blocks.push({ kind, text: content, language });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const [, fence, language = ""] = FENCE.exec(line) ?? [];
    if (open && fence?.startsWith(open.fence) && !language) {
      close("code", open.language);
      open = null;
    } else if (!open && fence) {
      close("text");
      open = { fence, language };
    } else lines.push(line);
  }
  close(open ? "code" : "text", open?.language);
  return blocks;
}

export function spansOf(text: string): Span[] {
  return text.split(SPANS).filter(Boolean).map((part): Span => {
    if (/^`[^`\n]+`$/.test(part)) return { kind: "code", text: part.slice(1, -1) };
    if (/^\*\*[^*\n]+\*\*$/.test(part)) return { kind: "strong", text: part.slice(2, -2) };
    return { kind: "text", text: part };
  });
}
