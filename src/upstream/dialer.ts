// The one way out to the network: undici with our time limits, retries, TLS, and the guard against private addresses.
// Undici's own retry interceptor would also resume bodies, at an address that may have expired: body.ts does that.
import { lookup } from 'node:dns';
import { Readable } from 'node:stream';
import { Agent, type Dispatcher, errors, request } from 'undici';
import { type Clock, systemClock } from './clock.ts';
import { type ConnectorOptions, createConnector, type Lookup } from './connector.ts';
import type { Answer } from './response.ts';
import { sendWithRetries } from './retry.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  /** Without a byte. */
  readonly bodyMs: number;
  /** For the whole of a body that is no blob; default: one minute. */
  readonly documentMs?: number | undefined;
  /** What a blob brings at least in a second, on average; default: 1 KiB. */
  readonly minBytesPerSecond?: number | undefined;
}

export interface DialerOptions extends Pick<ConnectorOptions, 'isGuarded' | 'tls'> {
  readonly timeouts: Timeouts;
  /** How often a request is sent again after the first time. */
  readonly retries: number;
  /** The longest wait before the first retry; it doubles. */
  readonly retryDelayMs: number;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  readonly lookup?: Lookup | undefined;
}

/** All that leaves with a request. */
export interface DialerRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  /** A stream is sent once, whatever happens: it is destroyed, or read to its end. */
  readonly body?: string | Uint8Array | Readable | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Waited for each time before it is sent. */
  readonly turn?: ((signal?: AbortSignal) => Promise<void>) | undefined;
}

export interface Dialer {
  /**
   * The answer, of whatever status; redirects are not followed, and its coding is as asked: none. The caller ends its body.
   * Throws ForbiddenAddress, an error of undici or the system, or the signal's reason.
   */
  send(url: URL, options: DialerRequest): Promise<Answer>;
  /** Does `work` again where `send` would send again: for what takes more than one request to repeat. */
  repeat(work: () => Promise<Answer>, signal?: AbortSignal): Promise<Answer>;
  /** Breaks what is under way. */
  close(): Promise<void>;
}

/** A registry that got a large blob looks at all of it, and may move it, before it answers. */
const STORING = 10;

/** A body that drips could go on for ever within the time that it may be silent. */
const DOCUMENT_MS = 60_000;
const MIN_BYTES_PER_SECOND = 1024;

/** Breaks a body that takes longer than a document may, until it is unbound. */
function bind({ body }: Dispatcher.ResponseData, timeouts: Timeouts): Answer['unbound'] {
  const { documentMs = DOCUMENT_MS, bodyMs, minBytesPerSecond = MIN_BYTES_PER_SECOND } = timeouts;
  const timer = setTimeout(() => {
    // Nobody may be reading just now.
    body.on('error', () => {}).destroy(new errors.BodyTimeoutError());
  }, documentMs).unref();
  body.once('close', () => clearTimeout(timer));
  return () => {
    clearTimeout(timer);
    let lateMs = 0;
    return (waitedMs, bytes) => {
      lateMs = Math.max(0, lateMs + waitedMs - (bytes / minBytesPerSecond) * 1000);
      if (lateMs > bodyMs) throw new errors.BodyTimeoutError();
    };
  };
}

/** A dialer for requests that may be repeated. The caller closes it. */
export function createDialer(options: DialerOptions): Dialer {
  const { timeouts, retries, retryDelayMs, clock = systemClock, random, isGuarded, tls } = options;
  const agent = new Agent({
    allowH2: false,
    headersTimeout: timeouts.headersMs,
    bodyTimeout: timeouts.bodyMs,
    connect: createConnector({ connectMs: timeouts.connectMs, isGuarded, tls, lookup: options.lookup ?? lookup }),
  });
  const repeat: Dialer['repeat'] = (work, signal) =>
    sendWithRetries(work, { retries, retryDelayMs, clock, random, signal });
  return {
    repeat,
    send(url, { method, headers, body, signal, turn }) {
      const send = async () => {
        await turn?.(signal);
        const response = await request(url, {
          dispatcher: agent,
          method,
          headers: { ...headers, 'accept-encoding': 'identity' },
          ...(body !== undefined && { body }),
          ...(body instanceof Readable && { headersTimeout: timeouts.headersMs * STORING }),
          ...(signal && { signal }),
        });
        return { ...response, unbound: bind(response, timeouts) };
      };
      return body instanceof Readable ? send() : repeat(send, signal);
    },
    close: () => agent.destroy(),
  };
}
