// How much of something each caller may have in a time: who is known by its name, and all others by the network that they come from.
import type { Context } from 'hono';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { subjectOf } from '../access/caller.ts';
import { networkOf } from '../access/passwords.ts';
import { RegistryError } from '../oci/errors.ts';
import { clientAddress } from './client-address.ts';

interface Rate {
  readonly count: number;
  readonly perMs: number;
}

/** Undefined: not limited. */
export interface CallerRates {
  /** Of each network. */
  readonly anonymous: Rate | undefined;
  /** Of each user and access token. */
  readonly known: Rate | undefined;
}

/** What is counted, in the plural, and the key of the configuration that its rates have. */
interface Counted {
  readonly what: string;
  readonly units: string;
  readonly key: string;
}

/**
 * Throws TOOMANYREQUESTS with its Retry-After where `count` more are too many; they do not count then. Callers on this machine, where nothing is
 * configured, are not limited: they may do all else, too.
 */
export type CountFor = (c: Context, count: number) => Promise<void>;

export interface CallerRate {
  readonly count: CountFor;
  /** Takes back what was counted for nothing. */
  giveBack(c: Context, count: number): Promise<void>;
}

/** A name for who asks: no address, and no name of a user, is one. */
const THIS_MACHINE = 'this machine:';

export function createCallerRate({ anonymous, known }: CallerRates, counted: Counted): CallerRate {
  const limiters = { anonymous: createLimiter(anonymous), known: createLimiter(known) };
  return {
    async count(c, count) {
      if (isLocal(c)) return;
      const { key, isKnown } = accountOf(c);
      const [limiter, rate] = isKnown ? [limiters.known, known] : [limiters.anonymous, anonymous];
      if (limiter && rate) await consume(counted, { limiter, rate, key, isKnown, count });
    },
    async giveBack(c, count) {
      if (isLocal(c)) return;
      const { key, isKnown } = accountOf(c);
      await limiters[isKnown ? 'known' : 'anonymous']?.reward(key, count);
    },
  };
}

function isLocal(c: Context): boolean {
  return c.get('rights')?.caller.kind === 'local';
}

interface Account {
  readonly key: string;
  readonly isKnown: boolean;
}

/** On whose account a request goes. */
export function accountOf(c: Context): Account {
  const caller = c.get('rights')?.caller;
  if (caller?.kind === 'local') return { key: THIS_MACHINE, isKnown: true };
  const subject = caller ? subjectOf(caller) : '';
  if (subject) return { key: subject, isKnown: true };
  return { key: `anonymous at ${networkOf(clientAddress(c) ?? 'an unknown address').name}`, isKnown: false };
}

function createLimiter(rate: Rate | undefined): RateLimiterMemory | undefined {
  return rate && new RateLimiterMemory({ points: rate.count, duration: Math.ceil(rate.perMs / 1000) });
}

interface Consumption {
  readonly limiter: RateLimiterMemory;
  readonly rate: Rate;
  readonly key: string;
  readonly isKnown: boolean;
  readonly count: number;
}

async function consume(counted: Counted, { limiter, rate, key, isKnown, count }: Consumption): Promise<void> {
  const before = await limiter.get(key);
  try {
    await limiter.consume(key, count);
  } catch (error) {
    if (!(error instanceof RateLimiterRes)) throw error;
    // What was refused is not to be waited for as well.
    await limiter.reward(key, count);
    const used = before?.consumedPoints ?? 0;
    const { what, units } = counted;
    const limit = `${rate.count} ${units} in ${Math.ceil(rate.perMs / 1000)} seconds`;
    const configured = `${counted.key}.${isKnown ? 'known' : 'anonymous'} in veneer.yaml`;
    throw new RegistryError(
      'TOOMANYREQUESTS',
      `too many ${what}: ${count} more would be ${used + count} of ${limit} (${configured})`,
      { status: 429, retryAfterSeconds: Math.max(1, Math.ceil(error.msBeforeNext / 1000)) },
    );
  }
}
