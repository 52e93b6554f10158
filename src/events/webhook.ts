// One POST to an endpoint, judged by its status alone. Errors name neither the address, which may itself be the secret, nor a header.
import { unescape as decodePercents } from 'node:querystring';
import { type Dispatcher, request } from 'undici';
import { EVENTS_MEDIA_TYPE } from './event.ts';

export interface Webhook {
  /** Resolves for a 2xx, whatever its body does. Throws DeliveryError, or the signal's reason when that aborts. */
  post(body: string, signal: AbortSignal): Promise<void>;
}

export interface WebhookOptions {
  /** Its user info becomes basic credentials, unless the headers have an Authorization. */
  readonly url: URL;
  /** They win over our own, the Content-Type too. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** For the whole of one POST. */
  readonly timeoutMs: number;
}

interface WebhookDeps {
  readonly dispatcher: Dispatcher;
  readonly now: () => Date;
}

/** The endpoint did not take the events. */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError';
  /** Whether another try would get the same answer. */
  readonly isFinal: boolean;
  /** How long the endpoint asked us to wait. */
  readonly retryAfterMs: number;

  constructor(message: string, { isFinal = false, retryAfterMs = 0 } = {}) {
    super(message);
    this.isFinal = isFinal;
    this.retryAfterMs = retryAfterMs;
  }
}

const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_RETRY_AFTER_MS = 10 * 60_000;

export function createWebhook(options: WebhookOptions, { dispatcher, now }: WebhookDeps): Webhook {
  const headers = headersOf(options);
  return {
    async post(body, signal) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]);
      try {
        const response = await request(options.url, { dispatcher, method: 'POST', headers, body, signal: limit });
        // The status has said all: a body that breaks, hangs or never ends changes nothing.
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
