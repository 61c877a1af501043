/** The gateway's downloads, followed while one is on its way. */

import { onScopeDispose, shallowReactive } from "vue";
import { get, reasonOf } from "../../api";
import { gatewayUrl } from "../../base";
import type { Job } from "./types";

const AGAIN_MS = 3000;

interface Page {
  jobs: Job[];
}

export interface Jobs {
  list: Job[];
  error: string | null;
  load(): Promise<void>;
}

/** `finished` hears of each that has ended while it was watched. */
export function useJobs(finished: (job: Job) => void): Jobs {
  let stream: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let gone = false;

  const jobs = shallowReactive<Jobs>({
    list: [],
    error: null,
    async load() {
      try {
        take(await get<Page>("api/deploy"));
        jobs.error = null;
      } catch (error) {
        jobs.error = reasonOf(error);
      }
    },
  });

  function take({ jobs: list }: Page): void {
    const before = new Set(jobs.list.filter(({ state }) => state === "running").map(({ id }) => id));
    jobs.list = list;
    for (const job of list) if (job.state !== "running" && before.has(job.id)) finished(job);
    if (list.some(({ state }) => state === "running")) follow();
  }

  function follow(): void {
    if (stream || gone) return;
    const mine = (stream = new EventSource(gatewayUrl("api/deploy/stream")));
    mine.addEventListener("jobs", (event) => take(JSON.parse((event as MessageEvent<string>).data) as Page));
    mine.addEventListener("end", () => leave());
    mine.onerror = () => {
      leave(); // the list tells why, and whether there is still something to follow
      clearTimeout(timer);
      timer = setTimeout(() => void jobs.load(), AGAIN_MS);
    };
  }

  function leave(): void {
    stream?.close();
    stream = null;
  }

  onScopeDispose(() => {
    gone = true;
    clearTimeout(timer);
    leave();
  });
  return jobs;
}
