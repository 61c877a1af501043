/** What `/api/deploy` says. Sizes in bytes, times in seconds. */

export type Fits = "yes" | "tight" | "no";
export type JobState = "running" | "done" | "failed" | "cancelled";

export interface Quantisation {
  quant: string;
  name: string;
  size: number;
  files: { path: string }[];
  fit: { fits: Fits; needed: number; needed_small: number; room: number; context: number | null; on_gpu: boolean };
}

export interface Plan {
  repo: string;
  commit: string;
  quantisations: Quantisation[];
  projector: string | null;
  problems: string[];
}

export interface Job {
  id: string;
  state: JobState;
  repo: string;
  quant: string;
  name: string;
  done: number;
  total: number;
  speed: number | null;
  files: { path: string; size: number; done: number }[];
  error: { code: string; message: string } | null;
  started_at: number;
  ended_at: number | null;
}
