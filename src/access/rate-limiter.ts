// Rate limits per caller: known callers by name, all others by network.
import { LRUCache } from 'lru-cache';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { RegistryError } from '../oci/errors.ts';
import { type RateState, type Requester, subjectOf } from './access.ts';
import { networkOf } from './address.ts';

interface Rate {
  readonly count: number;
  readonly perMs: number;
}

/** Undefined: not limited. */
export interface CallerRates {
  /** Per network. */
  readonly anonymous: Rate | undefined;
  /** Per user and access token. */
  readonly known: Rate | undefined;
}

/** What is counted, in the plural, and the configuration key of its rates. */
interface Counted {
  readonly what: string;
  readonly units: string;
  readonly key: string;
}

/** Callers on this machine are not limited while access is not configured: they may do everything else as well. */
export interface CallerRateLimiter {
  /** Throws TOOMANYREQUESTS with its Retry-After where `count` more would exceed the limit; they are not counted then. */
  consume(requester: Requester, count: number): Promise<void>;
  /** Refunds units that were not used. */
  refund(requester: Requester, count: number): Promise<void>;
}

export function createCallerRateLimiter({ anonymous, known }: CallerRates, counted: Counted): CallerRateLimiter {
  const limiters = { anonymous: createLimiter(anonymous), known: createLimiter(known) };
  return {
    async consume(requester, count) {
      if (requester.caller.kind === 'local') return;
      const { key, isKnown } = accountOf(requester);
      const [limiter, rate] = isKnown ? [limiters.known, known] : [limiters.anonymous, anonymous];
      if (!limiter || !rate) return;
      const onState = (state: RateLimiterRes) => requester.onCounted?.(describeState(counted, rate, state));
      await consume(counted, { limiter, rate, key, isKnown, count, onState });
    },
    async refund(requester, count) {
      if (requester.caller.kind === 'local') return;
      const { key, isKnown } = accountOf(requester);
      await limiters[isKnown ? 'known' : 'anonymous']?.rates.reward(key, count);
    },
  };
}

/** Cannot be an address or a user. */
const THIS_MACHINE = 'this machine:';

interface Account {
  readonly key: string;
  readonly isKnown: boolean;
}

/** The account that a request counts for. */
export function accountOf({ caller, address }: Requester): Account {
  if (caller.kind === 'local') return { key: THIS_MACHINE, isKnown: true };
  const subject = subjectOf(caller);
  if (subject) return { key: subject, isKnown: true };
  return { key: `anonymous at ${networkOf(address ?? 'an unknown address').name}`, isKnown: false };
}

/** Floods from more networks than this are stopped by other limits: the least recently used account is reset. */
const MAX_ACCOUNTS = 10_000;

interface Limiter {
  readonly rates: RateLimiterMemory;
  /** Accounts in the order of use. */
  readonly accounts: LRUCache<string, true>;
}

function createLimiter(rate: Rate | undefined): Limiter | undefined {
  if (!rate) return undefined;
  const rates = new RateLimiterMemory({ points: rate.count, duration: Math.ceil(rate.perMs / 1000) });
  const accounts = new LRUCache<string, true>({
    // Bounded by size, not by number: for a number it allocates all its memory at once.
    maxSize: MAX_ACCOUNTS,
    sizeCalculation: () => 1,
    dispose: (_, key, reason) => {
      if (reason === 'evict') void rates.delete(key);
    },
  });
  return { rates, accounts };
}

interface Consumption {
  readonly limiter: Limiter;
  readonly rate: Rate;
  readonly key: string;
  readonly isKnown: boolean;
  readonly count: number;
  readonly onState: (state: RateLimiterRes) => void;
}

function describeState({ what }: Counted, { count, perMs }: Rate, state: RateLimiterRes): RateState {
  return {
    ...{ name: what, count, perSeconds: Math.ceil(perMs / 1000) },
    left: Math.max(0, state.remainingPoints),
    resetSeconds: Math.max(1, Math.ceil(state.msBeforeNext / 1000)),
  };
}

async function consume(counted: Counted, { limiter, rate, key, isKnown, count, onState }: Consumption): Promise<void> {
  const { rates, accounts } = limiter;
  accounts.set(key, true);
  const before = await rates.get(key);
  try {
    onState(await rates.consume(key, count));
  } catch (error) {
    if (!(error instanceof RateLimiterRes)) throw error;
    // What was refused is not to be waited for as well.
    onState(await rates.reward(key, count));
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
