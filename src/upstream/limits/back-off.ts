// Honours a registry's rate limit: after a 429 with Retry-After no call is made until then, and with its limit used up no manifest is
// requested.
import { RegistryError } from '../../oci/errors.ts';
import type { ResponseHeaders } from '../transport/response.ts';
import { type Clock, remainingMs } from '../waiting.ts';
import { RateExceeded } from './rate.ts';

export interface BackOff {
  /** Throws TOOMANYREQUESTS, with the rest of the Retry-After, while calls are held back. */
  require(kind: CallKind): void;
  /** Records the rate limit headers of an answer. */
  observe(headers: ResponseHeaders): void;
  /** Records the upstream's 429 with its Retry-After; ignores any other error. */
  failed(error: unknown): void;
}

/** Registries limit manifest requests per client; few limit anything else. */
export type CallKind = 'manifest' | 'other';

interface Pause {
  readonly since: Date;
  readonly ms: number;
}

export function createBackOff(name: string, clock: Clock): BackOff {
  const pauses: Partial<Record<'all' | 'manifest', Pause>> = {};

  function check(pause: Pause | undefined, reason: string): void {
    const leftMs = pause ? remainingMs(clock, pause.since, pause.ms) : 0;
    if (leftMs === 0) return;
    const retryAfterSeconds = Math.ceil(leftMs / 1000);
    throw new RegistryError('TOOMANYREQUESTS', `${name}: not asked: ${reason}: try again in ${retryAfterSeconds} s`, {
      retryAfterSeconds,
    });
  }

  return {
    require(kind) {
      check(pauses.all, 'rate-limited by the registry until its Retry-After');
      if (kind === 'manifest') check(pauses.manifest, 'the rate limit of the registry is used up');
    },
    observe(headers) {
      const seconds = parseExhausted(headers);
      if (seconds !== undefined) pauses.manifest = { since: clock.now(), ms: seconds * 1000 };
    },
    failed(error) {
      if (!(error instanceof RegistryError) || error instanceof RateExceeded) return;
      if (error.status !== 429 || !error.retryAfterSeconds) return;
      pauses.all = { since: clock.now(), ms: error.retryAfterSeconds * 1000 };
    },
  };
}

/** Used where a registry gives no time, like Docker Hub. */
const DEFAULT_RESET_SECONDS = 60;
const MAX_RESET_SECONDS = 3600;

/**
 * For how many seconds the registry's limit is used up; undefined where it is not, or not reported. The fields are those of the IETF's
 * drafts and of Docker Hub: `RateLimit: "q";r=0;t=30`, or `RateLimit-Remaining: 0` with `RateLimit-Reset: 30`, or with a window as in
 * `0;w=21600`.
 */
function parseExhausted(headers: ResponseHeaders): number | undefined {
  if (findRateRemaining(headers) !== 0) return undefined;
  const reset =
    numberAfter(single(headers.ratelimit), /;\s*t=/) ?? numberAfter(single(headers['ratelimit-reset']), /^\s*/);
  return Math.min(reset ?? DEFAULT_RESET_SECONDS, MAX_RESET_SECONDS);
}

/** The number of remaining requests; undefined if not reported. */
export function findRateRemaining(headers: ResponseHeaders): number | undefined {
  const { ratelimit, 'ratelimit-remaining': remaining } = headers;
  if (ratelimit === undefined && remaining === undefined) return undefined;
  return numberAfter(single(ratelimit), /;\s*r=/) ?? numberAfter(single(remaining), /^\s*/);
}

function single(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : '';
}

function numberAfter(text: string, before: RegExp): number | undefined {
  const digits = new RegExp(`${before.source}(\\d{1,12})(?!\\d)`).exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
