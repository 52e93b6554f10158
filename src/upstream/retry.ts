// Sending again: after a connection that failed and a status that passes, at the time the server asks for.
import { errors } from 'undici';
import type { Clock } from './clock.ts';
import { type Answer, discard, parseRetryAfter } from './response.ts';

interface RetryOptions {
  /** How often a request is sent again after the first time. */
  readonly retries: number;
  /** The longest wait before the first retry; it doubles. */
  readonly retryDelayMs: number;
  readonly clock: Clock;
  /** From 0 to 1: what failed for many at the same moment must not be asked again by all of them at the next. Default: Math.random. */
  readonly random?: (() => number) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A longer wait is the client's to decide. */
const MAX_DELAY_MS = 5_000;
const PASSING_STATUSES: readonly number[] = [429, 500, 502, 503, 504];
const PASSING_CODES: readonly string[] = [
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENETDOWN',
  'ENETUNREACH',
  'EHOSTDOWN',
  'EHOSTUNREACH',
];

/** The first answer that is final, or the last one. Throws as `send` does, or when the signal aborts a wait. */
export async function sendWithRetries(
  send: () => Promise<Answer>,
  { retries, retryDelayMs, clock, random = Math.random, signal }: RetryOptions,
): Promise<Answer> {
  for (let attempt = 0; ; attempt++) {
    const isLast = attempt === retries;
    const response = await send().catch((error: unknown) => {
      if (isLast || !isPassing(error)) throw error;
      return undefined;
    });
    const asked = response && parseRetryAfter(response.headers);
    const backoffMs = retryDelayMs * 2 ** attempt;
    // What the server asks for is the least.
    const delayMs = asked === undefined ? backoffMs * (0.5 + random() / 2) : asked * 1000;
    const spreadMs = asked === undefined ? 0 : retryDelayMs * (1 - random());
    if (response) {
      if (isLast || !PASSING_STATUSES.includes(response.statusCode) || delayMs > MAX_DELAY_MS) return response;
      discard(response);
    }
    await clock.wait(Math.min(delayMs, MAX_DELAY_MS) + spreadMs, signal);
  }
}

function isPassing(error: unknown): boolean {
  if (error instanceof errors.SocketError || error instanceof errors.ConnectTimeoutError) return true;
  return error instanceof Error && 'code' in error && PASSING_CODES.includes(String(error.code));
}
