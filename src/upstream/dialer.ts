// The one way out to the network: undici with our time limits, retries, TLS, and the guard against private addresses.
// Undici's own retry interceptor would also resume bodies, at an address that may have expired: body.ts does that.
import { lookup } from 'node:dns';
import { Readable } from 'node:stream';
import { Agent, type Dispatcher, request } from 'undici';
import { type Clock, systemClock } from './clock.ts';
import { type ConnectorOptions, createConnector, type Lookup } from './connector.ts';
import { sendWithRetries } from './retry.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly bodyMs: number;
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
  send(url: URL, options: DialerRequest): Promise<Dispatcher.ResponseData>;
  /** Does `work` again where `send` would send again: for what takes more than one request to repeat. */
  repeat(work: () => Promise<Dispatcher.ResponseData>, signal?: AbortSignal): Promise<Dispatcher.ResponseData>;
  /** Breaks what is under way. */
  close(): Promise<void>;
}

/** A registry that got a large blob looks at all of it, and may move it, before it answers. */
const STORING = 10;

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
        return request(url, {
          dispatcher: agent,
          method,
          headers: { ...headers, 'accept-encoding': 'identity' },
          ...(body !== undefined && { body }),
          ...(body instanceof Readable && { headersTimeout: timeouts.headersMs * STORING }),
          ...(signal && { signal }),
        });
      };
      return body instanceof Readable ? send() : repeat(send, signal);
    },
    close: () => agent.destroy(),
  };
}
