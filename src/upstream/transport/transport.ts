// The only way out to the network: undici with our timeouts, retries, TLS, and the guard against private addresses. Undici's own retry
// interceptor would also resume bodies, at an address that may have expired: body.ts does that.
import { lookup } from 'node:dns';
import type { OnReadOpts, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { Agent, type Dispatcher, errors } from 'undici';
import type { ByteSource } from '../../content/byte-stream.ts';
import { findRateRemaining } from '../limits/back-off.ts';
import { type Clock, systemClock } from '../waiting.ts';
import { type ConnectorOptions, createConnector, type Lookup } from './connector.ts';
import { createReceiver } from './receiver.ts';
import { type Answer, discard, parseRetryAfter } from './response.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  /** Without receiving a byte. */
  readonly bodyMs: number;
  /** For the whole body of a document; default: one minute. */
  readonly documentMs?: number | undefined;
  /** The minimum average rate of a blob, in bytes per second; default: 1 KiB. */
  readonly minBytesPerSecond?: number | undefined;
}

/** One request to an upstream, and the head of its response, if there was one. */
export interface Exchange {
  readonly upstream: string;
  readonly method: string;
  /** Undefined where there was no response. */
  readonly status: number | undefined;
  /** Until the head of the response. */
  readonly durationMs: number;
  /** The remaining requests of the registry's rate limit, if it reports them. */
  readonly rateRemaining: number | undefined;
}

/**
 * Called for each request that is sent, retries included: it may add headers, and its result is called with the status of the response, if
 * there is one.
 */
export type TraceRequest = (request: { readonly upstream: string; readonly method: string; readonly url: URL }) => {
  readonly headers: Readonly<Record<string, string>>;
  end(status: number | undefined): void;
};

export interface TransportOptions extends Pick<ConnectorOptions, 'isGuarded' | 'tls'> {
  readonly timeouts: Timeouts;
  /** The number of retries. */
  readonly retries: number;
  /** The longest wait before the first retry; it doubles. */
  readonly retryDelayMs: number;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  readonly lookup?: Lookup | undefined;
  /** Called for each request that was sent, including retries. */
  readonly onExchange?: ((exchange: Exchange) => void) | undefined;
  readonly traceRequest?: TraceRequest | undefined;
}

/** Everything sent with a request. */
export interface TransportRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  /** The upstream's name, for `onExchange`; default: the host. */
  readonly upstream?: string | undefined;
  /** A stream is sent once: it is read to its end, or destroyed. */
  readonly body?: string | Uint8Array | Readable | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Awaited before each attempt. */
  readonly beforeAttempt?: ((signal?: AbortSignal) => Promise<void>) | undefined;
}

export interface Transport {
  /**
   * The answer, whatever its status; redirects are not followed, and it is not decoded. The caller ends its body. Throws ForbiddenAddress,
   * an error of undici or the system, or the signal's reason.
   */
  send(url: URL, options: TransportRequest): Promise<Answer>;
  /** Retries `work` in the same way as `send`: for operations of several requests. */
  repeat(work: () => Promise<Answer>, signal?: AbortSignal): Promise<Answer>;
  /** Aborts requests in progress. */
  close(): Promise<void>;
}

/** A registry that has received a large blob verifies it, and may move it, before it answers. */
const STORING = 10;

/** Otherwise a body could drip for ever, never silent for too long. */
const DOCUMENT_MS = 60_000;
const MIN_BYTES_PER_SECOND = 1024;

/** Aborts a body that takes longer than a document may, unless it is taken as content. */
function bind(
  { body }: Dispatcher.ResponseData,
  timeouts: Timeouts,
  take: (body: Readable) => ByteSource,
): Answer['takeContent'] {
  const { documentMs = DOCUMENT_MS, bodyMs, minBytesPerSecond = MIN_BYTES_PER_SECOND } = timeouts;
  const timer = setTimeout(() => {
    // The reader may be pausing.
    body.on('error', () => {}).destroy(new errors.BodyTimeoutError());
  }, documentMs).unref();
  body.once('close', () => clearTimeout(timer));
  return () => {
    clearTimeout(timer);
    const source = take(body);
    let lateMs = 0;
    return {
      close: source.close,
      async read(view) {
        const since = performance.now();
        const bytes = await source.read(view);
        // Only time spent waiting counts: the reader may be slow.
        const waitedMs = performance.now() - since;
        lateMs = Math.max(0, lateMs + waitedMs - (bytes / minBytesPerSecond) * 1000);
        if (bytes > 0 && lateMs > bodyMs) throw new errors.BodyTimeoutError();
        return bytes;
      },
    };
  };
}

/** A transport with retries. The caller closes it. */
export function createTransport(options: TransportOptions): Transport {
  const {
    timeouts,
    retries,
    retryDelayMs,
    clock = systemClock,
    random,
    isGuarded,
    tls,
    onExchange,
    traceRequest,
  } = options;
  const buffers = createReadBuffers();
  const agent = new Agent({
    allowH2: false,
    headersTimeout: timeouts.headersMs,
    bodyTimeout: timeouts.bodyMs,
    connect: createConnector({
      ...{ connectMs: timeouts.connectMs, isGuarded, tls, onread: buffers.onread },
      lookup: options.lookup ?? lookup,
    }),
  });
  const repeat: Transport['repeat'] = (work, signal) =>
    sendWithRetries(work, { retries, retryDelayMs, clock, random, signal });
  return {
    repeat,
    send(url, { method, headers, body, signal, beforeAttempt, upstream = url.host }) {
      const send = async () => {
        await beforeAttempt?.(signal);
        const sentAt = performance.now();
        const trace = traceRequest?.({ upstream, method, url });
        const report = (response?: Dispatcher.ResponseData) => {
          trace?.end(response?.statusCode);
          onExchange?.({
            ...{ upstream, method, status: response?.statusCode, durationMs: performance.now() - sentAt },
            rateRemaining: response && findRateRemaining(response.headers),
          });
        };
        const receiver = createReceiver(buffers.release);
        const sent = agent.compose(receiver.intercept).request({
          ...{ origin: url.origin, path: `${url.pathname}${url.search}`, method },
          headers: { ...headers, ...trace?.headers, 'accept-encoding': 'identity' },
          ...(body !== undefined && { body }),
          ...(body instanceof Readable && { headersTimeout: timeouts.headersMs * STORING }),
          ...(signal && { signal }),
        });
        const response = await sent.catch((error: unknown) => {
          report();
          throw error;
        });
        report(response);
        return { ...response, takeContent: bind(response, timeouts, receiver.take) };
      };
      return body instanceof Readable ? send() : repeat(send, signal);
    },
    close: () => agent.destroy(),
  };
}

interface ReadBuffers {
  /** How a socket reads. */
  readonly onread: OnReadOpts;
  /** To be called with what was read and is no longer needed: what it fills is used again. */
  release(chunk: Uint8Array): void;
}

const BUFFER_BYTES = 128 * 1024;
/** Less is copied, and so are headers nearly always. */
const LARGE_BYTES = 16 * 1024;
const MAX_FREE = 8;

/**
 * Buffers of connections. Node allocates one for each 64 KiB, and to find that these are garbage takes longer than to receive them. Here a
 * large read fills a buffer that is used again once it is released. What is not released is left to the garbage collector.
 */
export function createReadBuffers(): ReadBuffers {
  // For all connections: what is read into it is copied before the next read.
  const shared = Buffer.allocUnsafeSlow(LARGE_BYTES * 4);
  const free: Buffer[] = [];
  /** How much was read into those that are not released. */
  const filled = new WeakMap<ArrayBufferLike, number>();
  let next: Buffer = shared;
  return {
    onread: {
      // Called for the first buffer of a connection, and after each callback.
      buffer() {
        const buffer = next;
        next = shared;
        return buffer;
      },
      callback(this: Socket, bytes, buffer) {
        const read = buffer.subarray(0, bytes);
        const isLarge = bytes >= LARGE_BYTES;
        const isKept = isLarge && buffer !== shared;
        if (isKept) filled.set(buffer.buffer, bytes);
        else if (buffer !== shared) keep(buffer.buffer);
        const hasRoom = this.push(isKept ? read : Buffer.from(read));
        if (isLarge) next = free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
        return hasRoom;
      },
    },
    release({ buffer, byteOffset, byteLength }) {
      // Something else was read with it, such as headers, which may still be needed.
      if (byteOffset > 0 || filled.get(buffer) !== byteLength) return;
      filled.delete(buffer);
      keep(buffer);
    },
  };

  function keep(buffer: ArrayBufferLike): void {
    if (free.length < MAX_FREE) free.push(Buffer.from(buffer));
  }
}

/** A longer wait is for the client to decide. */
const MAX_DELAY_MS = 5_000;
const TRANSIENT_STATUSES: readonly number[] = [429, 500, 502, 503, 504];
const TRANSIENT_CODES: readonly string[] = [
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

/**
 * Retries after a failed connection or a transient status, no sooner than the server asks for. Returns the first final answer, or the last
 * one. Throws as `send` does, or when the signal aborts a wait.
 */
async function sendWithRetries(
  send: () => Promise<Answer>,
  {
    retries,
    retryDelayMs,
    clock,
    random = Math.random,
    signal,
  }: {
    /** The number of retries. */
    readonly retries: number;
    /** The longest wait before the first retry; it doubles. */
    readonly retryDelayMs: number;
    readonly clock: Clock;
    /** From 0 to 1: spreads retries of requests that failed at the same moment. Default: Math.random. */
    readonly random?: (() => number) | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Answer> {
  for (let attempt = 0; ; attempt++) {
    const isLast = attempt === retries;
    const response = await send().catch((error: unknown) => {
      if (isLast || !isTransient(error)) throw error;
      return undefined;
    });
    const asked = response && parseRetryAfter(response.headers);
    const backoffMs = retryDelayMs * 2 ** attempt;
    // The server's Retry-After is the minimum.
    const delayMs = asked === undefined ? backoffMs * (0.5 + random() / 2) : asked * 1000;
    const spreadMs = asked === undefined ? 0 : retryDelayMs * (1 - random());
    if (response) {
      if (isLast || !TRANSIENT_STATUSES.includes(response.statusCode) || delayMs > MAX_DELAY_MS) return response;
      discard(response);
    }
    await clock.wait(Math.min(delayMs, MAX_DELAY_MS) + spreadMs, signal);
  }
}

function isTransient(error: unknown): boolean {
  if (error instanceof errors.SocketError || error instanceof errors.ConnectTimeoutError) return true;
  return error instanceof Error && 'code' in error && TRANSIENT_CODES.includes(String(error.code));
}
