import { describe, expect, it } from "vitest";
import type { Job, Quantisation } from "../src/pages/deploy/types";
import { fitWords, latest, progressWords, repositoryIn } from "../src/pages/deploy/words";

const GIB = 1024 ** 3;

it.each([
  ["Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF"], [" org/model:Q4_K_M ", "org/model"], ["https://huggingface.co/org/model", "org/model"],
  ["https://huggingface.co/org/model/tree/main?x=1#y", "org/model"], ["hf.co/org/model.git", "org/model"],
])("finds in %o the repository %s", (text, name) => expect(repositoryIn(text)).toBe(name));

it.each(["", "model", "org/", "/model", "org/../etc", "org/a..b", "org/a b", "https://evil.example/org/model", "../../etc/passwd", "org/é"])(
  "finds none in %o", (text) => expect(repositoryIn(text)).toBeNull());

describe("whether it fits", () => {
  const offer = (fit: Partial<Quantisation["fit"]>): Quantisation => ({
    quant: "Q4_K_M", name: "m", size: GIB, files: [],
    fit: { fits: "yes", needed: 4 * GIB, needed_small: 2 * GIB, room: 8 * GIB, context: 8192, on_gpu: false, ...fit },
  });
  it("is told with its numbers", () => expect(fitWords(offer({}))).toBe("needs 4 GiB of 8 GiB"));
  it("is told of the GPU", () => expect(fitWords(offer({ on_gpu: true }))).toContain("all of it on the GPU"));
  it("is told of a smaller context", () => expect(fitWords(offer({ fits: "tight", needed: 9 * GIB }))).toContain("with a smaller context only"));
  it("is told of too little", () => expect(fitWords(offer({ fits: "no", needed_small: 9 * GIB }))).toBe("needs 9 GiB at least; there are 8 GiB"));
});

describe("a download", () => {
  const job = (given: Partial<Job>): Job => ({
    id: "1", state: "running", repo: "org/model", quant: "Q4_K_M", name: "m", done: GIB, total: 4 * GIB, speed: 32 * 1024 ** 2,
    files: [], error: null, started_at: 0, ended_at: null, ...given,
  });
  it("tells how far it is, how fast, and how long", () => expect(progressWords(job({}))).toBe("1 GiB of 4 GiB · 32 MiB/s · 1 min 36 s left"));
  it("promises nothing at first", () => expect(progressWords(job({ speed: null }))).toBe("1 GiB of 4 GiB"));
  it("is looked over at the end", () => expect(progressWords(job({ done: 4 * GIB }))).toBe("4 GiB of 4 GiB · checking it"));
  it("can be gone on with", () => expect(progressWords(job({ state: "failed" }))).toContain("is gone on with"));
  it("is as large as it is", () => expect(progressWords(job({ state: "done" }))).toBe("4 GiB"));
  it("takes the place of earlier ones of the same model", () => {
    const all = [job({ id: "3" }), job({ id: "2", name: "other" }), job({ id: "1", state: "cancelled" })];
    expect(latest(all).map(({ id }) => id)).toEqual(["3", "2"]);
  });
});
