// A batch on its way: tried until the endpoint takes it, refuses it, or the retries are used up.
import pRetry from 'p-retry';
import type { Logger } from 'pino';
import { encodeEnvelope, type RegistryEvent } from './event.ts';
import { DeliveryError, type Webhook } from './webhook.ts';

/** Throws DeliveryError when the endpoint did not take the events, or the signal's reason when that aborts. */
export type Deliver = (events: readonly RegistryEvent[], signal: AbortSignal) => Promise<void>;

export interface Backoff {
  /** The wait before the first retry; it doubles, up to `maxMs`. */
  readonly minMs: number;
  readonly maxMs: number;
  /** Whether each wait is stretched by up to twice, at random. */
  readonly hasJitter: boolean;
}

export interface DeliveryDeps {
  readonly webhook: Webhook;
  readonly retries: number;
  readonly backoff: Backoff;
  /** Waits for as long as an endpoint asks for beyond the back-off. Rejects when the signal aborts. */
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
      shouldRetry: ({ error }) => isPassing(error),
      async onFailedAttempt({ error, attemptNumber, retriesLeft, retryDelay }) {
        if (!isPassing(error) || retriesLeft === 0) return;
        const waitMs = Math.max(error.retryAfterMs, retryDelay);
        log.warn({ reason: error.message, attempt: attemptNumber, retriesLeft, waitMs }, 'events not delivered yet');
        if (waitMs > retryDelay) await wait(waitMs - retryDelay, signal);
      },
    });
  };
}

function isPassing(error: Error): error is DeliveryError {
  return error instanceof DeliveryError && !error.isFinal;
}
