// The one way out to the network: undici with our time limits, retries, TLS, and the guard against private addresses.
import { type LookupAddress, type LookupOptions, lookup as resolve } from 'node:dns';
import { Agent, buildConnector, type Dispatcher, errors, interceptors, type RetryHandler } from 'undici';
import { bareHost, isAddress, isPublicAddress } from './addresses.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly bodyMs: number;
}

/** PEM texts; `insecure` accepts any certificate. */
export interface TlsOptions {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly insecure?: boolean | undefined;
}

export interface DialerOptions {
  readonly timeouts: Timeouts;
  /** How often a read is tried again after the first time. */
  readonly retries: number;
  /** The wait before the first retry; it doubles. */
  readonly retryDelayMs: number;
  /** Whether only public addresses may be reached, by name or as they are. */
  readonly isGuarded: boolean;
  readonly tls?: TlsOptions | undefined;
}

/** The address is one that no stranger may make us reach. */
export class ForbiddenAddress extends Error {
  override readonly name = 'ForbiddenAddress';
}

const MAX_RETRY_DELAY_MS = 5_000;
const RETRIED_STATUSES: readonly number[] = [429, 500, 502, 503, 504];
const FINAL_ERRORS = [errors.HeadersTimeoutError, errors.BodyTimeoutError, errors.RequestAbortedError];

/** A dispatcher for reads. The caller destroys it. */
export function createDialer(options: DialerOptions): Dispatcher {
  const agent = new Agent({
    allowH2: false,
    headersTimeout: options.timeouts.headersMs,
    bodyTimeout: options.timeouts.bodyMs,
    connect: createConnector(options),
  });
  const retry = createRetryPolicy(options);
  return agent.compose(interceptors.retry({ throwOnError: false, retry, methods: ['GET', 'HEAD'] }));
}

function createConnector({ timeouts, isGuarded, tls = {} }: DialerOptions): buildConnector.connector {
  const connect = buildConnector({
    allowH2: false,
    timeout: timeouts.connectMs,
    rejectUnauthorized: !tls.insecure,
    ...(tls.ca && { ca: tls.ca }),
    ...(tls.cert && { cert: tls.cert }),
    ...(tls.key && { key: tls.key }),
    ...(isGuarded && { lookup: lookupPublic }),
  });
  if (!isGuarded) return connect;
  return (target, callback) => {
    // A literal address is dialled without a lookup.
    if (isAddress(target.hostname) && !isPublicAddress(bareHost(target.hostname))) {
      callback(new ForbiddenAddress(`${target.hostname} is not a public address`), null);
    } else {
      connect(target, callback);
    }
  };
}

type LookupCallback = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;

/** Checks the very addresses that are dialled next, so that a second answer of the name server cannot differ. */
function lookupPublic(hostname: string, options: LookupOptions, callback: LookupCallback): void {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    const [first] = addresses ?? [];
    if (error || !first) return callback(error ?? new Error(`${hostname} has no address`), []);
    if (!addresses.every(({ address }) => isPublicAddress(address))) {
      return callback(new ForbiddenAddress(`${hostname} is not at a public address`), []);
    }
    if (options.all) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
}

/** Connection errors and passing statuses are tried again, at the time the server asks for; a longer wait than ours is the client's to decide. */
function createRetryPolicy({ retries, retryDelayMs }: DialerOptions): RetryHandler.RetryCallback {
  return (error, { state }, done) => {
    const isStatus = error instanceof errors.RequestRetryError;
    const isFinal = isStatus
      ? !RETRIED_STATUSES.includes(error.statusCode)
      : error instanceof ForbiddenAddress || FINAL_ERRORS.some(type => error instanceof type);
    const delayMs = (isStatus && retryAfterMs(error.headers)) || retryDelayMs * 2 ** Math.max(0, state.counter - 1);
    if (isFinal || state.counter > retries || delayMs > MAX_RETRY_DELAY_MS) done(error);
    else return setTimeout(() => done(null), delayMs);
  };
}

function retryAfterMs(headers: unknown): number | undefined {
  if (typeof headers !== 'object' || headers === null || !('retry-after' in headers)) return undefined;
  const seconds = parseRetryAfter(headers['retry-after']);
  return seconds === undefined ? undefined : seconds * 1000;
}

/** Seconds from now of a Retry-After header, which is a number of them or a date. */
export function parseRetryAfter(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}
