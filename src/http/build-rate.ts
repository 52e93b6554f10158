// How many builds a caller may have begun: each platform of one counts, and what is built already is free.
import type { Context } from 'hono';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { subjectOf } from '../access/caller.ts';
import { RegistryError } from '../oci/errors.ts';
import { clientAddress } from './client-address.ts';

export interface Rate {
  readonly count: number;
  readonly perMs: number;
}

/** Undefined: not limited. Callers on this machine, where nothing is configured, never are. */
export interface BuildRates {
  /** Of each address. */
  readonly anonymous: Rate | undefined;
  /** Of each user and access token. */
  readonly known: Rate | undefined;
}

/** Throws TOOMANYREQUESTS with its Retry-After where `platforms` more are too many; they do not count then. */
export type CountBuild = (c: Context, platforms: number) => Promise<void>;

export function createBuildRate({ anonymous, known }: BuildRates): CountBuild {
  const limiters = { anonymous: createLimiter(anonymous), known: createLimiter(known) };
  return async (c, platforms) => {
    const caller = c.get('rights')?.caller;
    if (caller?.kind === 'local') return;
    const subject = caller ? subjectOf(caller) : '';
    const key = subject || `anonymous at ${clientAddress(c) ?? 'an unknown address'}`;
    const [limiter, rate] = subject ? [limiters.known, known] : [limiters.anonymous, anonymous];
    if (limiter && rate) await consume({ limiter, rate, key, platforms });
  };
}

function createLimiter(rate: Rate | undefined): RateLimiterMemory | undefined {
  return rate && new RateLimiterMemory({ points: rate.count, duration: Math.ceil(rate.perMs / 1000) });
}

interface Consumption {
  readonly limiter: RateLimiterMemory;
  readonly rate: Rate;
  readonly key: string;
  readonly platforms: number;
}

async function consume({ limiter, rate, key, platforms }: Consumption): Promise<void> {
  const before = await limiter.get(key);
  try {
    await limiter.consume(key, platforms);
  } catch (error) {
    if (!(error instanceof RateLimiterRes)) throw error;
    // What was refused is not to be waited for as well.
    await limiter.reward(key, platforms);
    const used = before?.consumedPoints ?? 0;
    throw new RegistryError(
      'TOOMANYREQUESTS',
      `too many builds: ${platforms} more would be ${used + platforms} of ${rate.count} platforms in ${Math.ceil(rate.perMs / 1000)} seconds`,
      { status: 429, retryAfterSeconds: Math.max(1, Math.ceil(error.msBeforeNext / 1000)) },
    );
  }
}
