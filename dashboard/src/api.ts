/** The gateway's REST API. Owns how an error becomes a sentence, and that a 401 asks for the key. */

import { gatewayUrl } from "./base";
import { session } from "./session";

const PATIENCE_MS = 30_000;

/** `status` is 0 where no answer came at all. */
export class ApiError extends Error {
  constructor(message: string, readonly status: number, readonly code: string) {
    super(message);
    this.name = "ApiError";
  }
}

type Method = "GET" | "POST" | "PATCH" | "PUT" | "DELETE";

/** Raises ApiError. `path` has no leading slash. */
export async function call<T>(method: Method, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await reach(method, path, body, signal);
  if (response.ok) return (await response.json()) as T;
  const error = await explain(response);
  if (error.status === 401 && path !== "api/session") session.needed = true;
  throw error;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>("GET", path, undefined, signal);
export const post = <T>(path: string, body?: unknown): Promise<T> => call<T>("POST", path, body ?? {});
export const patch = <T>(path: string, body: unknown): Promise<T> => call<T>("PATCH", path, body);
export const remove = <T>(path: string): Promise<T> => call<T>("DELETE", path, {});

/** A name as one part of a path. */
export const part = encodeURIComponent;

async function reach(method: Method, path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  try {
    return await fetch(gatewayUrl(path), {
      method,
      cache: "no-store",
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const cause = patience.aborted ? `no answer within ${PATIENCE_MS / 1000} s` : "the gateway cannot be reached";
    throw new ApiError(cause, 0, "unreachable");
  }
}

async function explain(response: Response): Promise<ApiError> {
  const fallback = `${response.status} ${response.statusText}`.trim();
  try {
    const { error } = (await response.json()) as { error?: { message?: string; code?: string } };
    return new ApiError(error?.message || fallback, response.status, error?.code || "unknown");
  } catch {
    return new ApiError(fallback, response.status, "unknown"); // no JSON: something before the gateway answered
  }
}

/** What to show a person of whatever was thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
