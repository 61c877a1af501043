/** Server-sent events as their bytes arrive, cut anywhere: within a line, a character, or a line's end. Pure. */

export interface Piece {
  kind: "data" | "comment";
  text: string;
}

/** Characters of a line, and of an event, above which somebody else than a gateway is speaking. */
const LONGEST = 4 * 1024 ** 2;

export class SseParser {
  private readonly decoder = new TextDecoder();
  private line = "";
  private data: string[] = [];
  private size = 0;

  /** What is whole by now. Raises an error where an event has no end. */
  take(bytes: Uint8Array): Piece[] {
    return this.read(this.decoder.decode(bytes, { stream: true }));
  }

  private read(text: string): Piece[] {
    const found: Piece[] = [];
    const lines = (this.line + text).split(/\r\n|\n|\r(?=[^])/);
    this.line = lines.pop() ?? "";
    for (const line of lines) {
      const piece = this.ended(line);
      if (piece) found.push(piece);
    }
    if (this.line.length + this.size > LONGEST) throw new Error("the answer has a line without end");
    return found;
  }

  private ended(line: string): Piece | null {
    if (line === "") return this.dispatch();
    if (line.startsWith(":")) return { kind: "comment", text: line.slice(1).trim() };
    const [, name, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line) ?? [];
    if (name === "data") {
      this.data.push(value);
      this.size += value.length;
    }
    return null;
  }

  private dispatch(): Piece | null {
    const data = this.data;
    this.data = [];
    this.size = 0;
    return data.length ? { kind: "data", text: data.join("\n") } : null;
  }
}
