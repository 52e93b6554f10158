// One POST to an endpoint, judged by its status only. Errors contain neither the address, which may itself be the secret, nor any header.
import { unescape as decodePercents } from 'node:querystring';
import pRetry from 'p-retry';
import type { Logger } from 'pino';
import type { Dispatcher } from 'undici';
import { EVENTS_MEDIA_TYPE, encodeEnvelope, type RegistryEvent } from './event.ts';

interface Webhook {
  /** Resolves for a 2xx, whatever its body. Throws DeliveryError, or the signal's reason when that aborts. */
  post(body: string, signal: AbortSignal): Promise<void>;
}

export interface WebhookOptions {
  /** Its user info is sent as basic credentials, unless the headers have an Authorization. */
  readonly url: URL;
  /** They override our own, including the Content-Type. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Timeout of one POST. */
  readonly timeoutMs: number;
}

/** The endpoint did not accept the events. */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError';
  /** Whether a retry would get the same answer. */
  readonly isFinal: boolean;
  /** The Retry-After of the endpoint. */
  readonly retryAfterMs: number;

  constructor(message: string, { isFinal = false, retryAfterMs = 0 } = {}) {
    super(message);
    this.isFinal = isFinal;
    this.retryAfterMs = retryAfterMs;
  }
}

const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_RETRY_AFTER_MS = 10 * 60_000;

export function createWebhook(
  options: WebhookOptions,
  { dispatcher, now }: { readonly dispatcher: Dispatcher; readonly now: () => Date },
): Webhook {
  const headers = headersOf(options);
  return {
    async post(body, signal) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]);
      try {
        const response = await dispatcher.request({
          ...{ origin: options.url.origin, path: `${options.url.pathname}${options.url.search}` },
          ...{ method: 'POST', headers, body, signal: limit },
        });
        // The status decides: a body that breaks, hangs or never ends makes no difference.
        await response.body.dump({ limit: MAX_ANSWER_BYTES, signal: limit }).catch(() => undefined);
        requireSuccess(response, now());
      } catch (cause) {
        if (cause instanceof DeliveryError) throw cause;
        signal.throwIfAborted();
        throw new DeliveryError(reasonOf(cause));
      }
    },
  };
}

function headersOf({ url, headers = {} }: WebhookOptions): Record<string, string> {
  const userInfo = `${decodePercents(url.username)}:${decodePercents(url.password)}`;
  return {
    'content-type': EVENTS_MEDIA_TYPE,
    'user-agent': 'veneer',
    ...(userInfo !== ':' && { authorization: `Basic ${Buffer.from(userInfo).toString('base64')}` }),
    ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])),
  };
}

function requireSuccess({ statusCode, headers }: Dispatcher.ResponseData, now: Date): void {
  if (statusCode >= 200 && statusCode < 300) return;
  const hint = statusCode < 400 ? ', and redirects are not followed' : '';
  const isFinal = statusCode >= 400 && statusCode < 500 && statusCode !== 408 && statusCode !== 429;
  const retryAfterMs = parseRetryAfter(headers['retry-after'], now);
  throw new DeliveryError(`status ${statusCode}${hint}`, { isFinal, retryAfterMs });
}

/** Milliseconds from `now` of a Retry-After header, which is a number of seconds or a date; 0 for anything else. */
function parseRetryAfter(value: unknown, now: Date): number {
  if (typeof value !== 'string') return 0;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now.getTime();
  return ms > 0 ? Math.min(ms, MAX_RETRY_AFTER_MS) : 0;
}

function reasonOf(cause: unknown): string {
  if (cause instanceof DOMException && cause.name === 'TimeoutError') return 'timed out';
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return typeof code === 'string' ? `connection failed (${code})` : 'connection failed';
}

// Delivers a batch: retried until the endpoint accepts it, refuses it, or the retries are used up.

/** Throws DeliveryError when the endpoint did not accept the events, or the signal's reason when that aborts. */
export type Deliver = (events: readonly RegistryEvent[], signal: AbortSignal) => Promise<void>;

export interface Backoff {
  /** The wait before the first retry; it doubles, up to `maxMs`. */
  readonly minMs: number;
  readonly maxMs: number;
  /** Whether waits are randomised up to twice their length. */
  readonly hasJitter: boolean;
}

export interface DeliveryDeps {
  readonly webhook: Webhook;
  readonly retries: number;
  readonly backoff: Backoff;
  /** Waits for the Retry-After, if longer than the back-off. Rejects when the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly log: Logger;
}

export function createDelivery({ webhook, retries, backoff, wait, log }: DeliveryDeps): Deliver {
  return async (events, signal) => {
    const body = encodeEnvelope(events);
    await pRetry(() => webhook.post(body, signal), {
      retries,
      signal,
      minTimeout: backoff.minMs,
      maxTimeout: backoff.maxMs,
      randomize: backoff.hasJitter,
      shouldRetry: ({ error }) => isTransient(error),
      async onFailedAttempt({ error, attemptNumber, retriesLeft, retryDelay }) {
        if (!isTransient(error) || retriesLeft === 0) return;
        const waitMs = Math.max(error.retryAfterMs, retryDelay);
        log.warn({ reason: error.message, attempt: attemptNumber, retriesLeft, waitMs }, 'events not delivered yet');
        if (waitMs > retryDelay) await wait(waitMs - retryDelay, signal);
      },
    });
  };
}

function isTransient(error: Error): error is DeliveryError {
  return error instanceof DeliveryError && !error.isFinal;
}
