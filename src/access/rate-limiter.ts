// Rate limits per caller: known callers by name, all others by network.
import { LRUCache } from 'lru-cache';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { RegistryError } from '../oci/errors.ts';
import { type RateState, type Requester, subjectOf } from './access.ts';
import { networkOf } from './address.ts';
import { type Counting, type SharedCounts, shareCounts } from './shared-counts.ts';

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

/** Where processes share the records of `counting`, they count together; while these are away, each by itself. */
export function createCallerRateLimiter(
  { anonymous, known }: CallerRates,
  counted: Counted,
  counting?: Counting,
): CallerRateLimiter {
  const limiters = {
    anonymous: createLimiter(anonymous, `${counted.what} anonymous`, counting),
    known: createLimiter(known, `${counted.what} known`, counting),
  };
  return {
    async consume(requester, count) {
      if (requester.caller.kind === 'local') return;
      const { key, isKnown } = accountOf(requester);
      const limiter = limiters[isKnown ? 'known' : 'anonymous'];
      if (!limiter) return;
      const { rate } = limiter;
      const state = await take(limiter, key, count);
      requester.onCounted?.(describeState(counted, rate, state));
      if (!state.isGranted) throw refusal(counted, { rate, isKnown, count, state });
    },
    async refund(requester, count) {
      if (requester.caller.kind === 'local') return;
      const { key, isKnown } = accountOf(requester);
      const limiter = limiters[isKnown ? 'known' : 'anonymous'];
      if (!limiter) return;
      if (!(await limiter.shared?.giveBack(key, count))) await limiter.own.reward(key, count);
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
  readonly rate: Rate;
  readonly own: RateLimiterMemory;
  /** Accounts of `own` in the order of use. */
  readonly accounts: LRUCache<string, true>;
  readonly shared: SharedCounts | undefined;
}

function createLimiter(rate: Rate | undefined, name: string, counting: Counting | undefined): Limiter | undefined {
  if (!rate) return undefined;
  const durationSeconds = Math.ceil(rate.perMs / 1000);
  const own = new RateLimiterMemory({ points: rate.count, duration: durationSeconds });
  const accounts = new LRUCache<string, true>({
    // Bounded by size, not by number: for a number it allocates all its memory at once.
    maxSize: MAX_ACCOUNTS,
    sizeCalculation: () => 1,
    dispose: (_, key, reason) => {
      if (reason === 'evict') void own.delete(key);
    },
  });
  const shared = counting && shareCounts({ counting, name, max: rate.count, windowMs: durationSeconds * 1000 });
  return { rate, own, accounts, shared };
}

interface Taken {
  readonly isGranted: boolean;
  readonly used: number;
  readonly msLeft: number;
}

async function take({ own, accounts, shared }: Limiter, key: string, count: number): Promise<Taken> {
  const together = await shared?.take(key, count);
  if (together) return together;
  accounts.set(key, true);
  try {
    const { consumedPoints, msBeforeNext } = await own.consume(key, count);
    return { isGranted: true, used: consumedPoints, msLeft: msBeforeNext };
  } catch (error) {
    if (!(error instanceof RateLimiterRes)) throw error;
    // What was refused is not to be waited for as well.
    const { consumedPoints, msBeforeNext } = await own.reward(key, count);
    return { isGranted: false, used: consumedPoints, msLeft: msBeforeNext };
  }
}

function describeState({ what }: Counted, { count, perMs }: Rate, { used, msLeft }: Taken): RateState {
  return {
    ...{ name: what, count, perSeconds: Math.ceil(perMs / 1000) },
    left: Math.max(0, count - used),
    resetSeconds: secondsOf(msLeft),
  };
}

const secondsOf = (ms: number) => Math.max(1, Math.ceil(ms / 1000));

function refusal(
  { what, units, key }: Counted,
  {
    rate,
    isKnown,
    count,
    state,
  }: { readonly rate: Rate; readonly isKnown: boolean; readonly count: number; readonly state: Taken },
): RegistryError {
  const limit = `${rate.count} ${units} in ${Math.ceil(rate.perMs / 1000)} seconds`;
  const configured = `${key}.${isKnown ? 'known' : 'anonymous'} in veneer.yaml`;
  return new RegistryError(
    'TOOMANYREQUESTS',
    `too many ${what}: ${count} more would be ${state.used + count} of ${limit} (${configured})`,
    { status: 429, retryAfterSeconds: secondsOf(state.msLeft) },
  );
}
