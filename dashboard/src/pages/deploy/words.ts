/** Repositories as people paste them, and downloads in words. Pure. */

import { bytes, count, duration } from "../../format";
import type { Look } from "../../states";
import type { Fits, Job, JobState, Quantisation } from "./types";

const PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}";
const REPOSITORY = new RegExp(`^(${PART}/${PART})(?:[/:?#].*)?$`);

/** `owner/name` of what was typed or pasted: an address, or a name with a quantisation after it; null where it is none. */
export function repositoryIn(text: string): string | null {
  const bare = text.trim().replace(/^(https?:\/\/)?(www\.)?(huggingface\.co|hf\.co)\//i, "");
  const name = REPOSITORY.exec(bare)?.[1]?.replace(/\.git$/, "") ?? null;
  return name && !name.includes("..") && !name.includes("--") ? name : null;
}

export const FITS: Record<Fits, Look> = {
  yes: { tone: "good", icon: "check", label: "Fits" },
  tight: { tone: "warn", icon: "half", label: "Tight" },
  no: { tone: "bad", icon: "cross", label: "Too large" },
};

export function fitWords({ fit }: Quantisation): string {
  const room = bytes(fit.room);
  if (fit.fits === "no") return `needs ${bytes(fit.needed_small)} at least; there are ${room}`;
  const smaller = fit.needed > fit.room ? ", with a smaller context only" : "";
  return `needs ${bytes(fit.needed)} of ${room}${smaller}${fit.on_gpu ? ", all of it on the GPU" : ""}`;
}

export const JOBS: Record<JobState, Look> = {
  running: { tone: "accent", icon: "download", label: "Downloading" },
  done: { tone: "good", icon: "check", label: "Here" },
  failed: { tone: "bad", icon: "alert", label: "Failed" },
  cancelled: { tone: "idle", icon: "stop", label: "Stopped" },
};

/** "1.2 of 4.7 GiB · 35 MiB/s · 1 min 42 s left". */
export function progressWords(job: Job): string {
  if (job.state === "done") return bytes(job.total);
  const parts = [`${bytes(job.done)} of ${bytes(job.total)}`];
  if (job.state === "running" && job.done >= job.total) parts.push("checking it");
  else if (job.state === "running" && job.speed) {
    parts.push(`${bytes(job.speed)}/s`, `${duration((job.total - job.done) / job.speed)} left`);
  } else if (job.state !== "running" && job.done) parts.push("what is here stays, and is gone on with");
  return parts.join(" · ");
}

export function contextWords({ fit }: Quantisation): string {
  return fit.context ? `${count(fit.context)} tokens` : "";
}

/** Without those that a later attempt at the same model has taken the place of. The newest come first. */
export function latest(jobs: readonly Job[]): Job[] {
  const seen = new Set<string>();
  return jobs.filter(({ name }) => !seen.has(name) && seen.add(name));
}
