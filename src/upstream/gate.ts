// The way to one registry: how much goes through at a time, how often, and whether it is to be left alone.
import { type Breaker, type BreakerChange, createBreaker } from './breaker.ts';
import type { Clock } from './clock.ts';
import { type CallKind, createQuiet, type Quiet } from './quiet.ts';
import { createTurns, type Rate } from './rate.ts';
import type { ResponseHeaders } from './response.ts';
import { createSlots, freeingAtEnd, type TakeSlot } from './slots.ts';
import type { BlobBody, CallOptions } from './upstream.ts';

/** Absent: not limited. */
export interface GatePolicy {
  /** Calls under way at a time; one for a blob is as long as its body. Where it is more than one, blobs leave one place to all else. */
  readonly concurrency?: number | undefined;
  /** How many calls may wait for others. */
  readonly queue?: number | undefined;
  readonly rate?: Rate | undefined;
  readonly breaker?: BreakerPolicy | undefined;
}

export interface BreakerPolicy {
  /** 0: it never opens. */
  readonly failures: number;
  readonly pauseMs: number;
}

interface GateOptions {
  /** The registry, for messages. */
  readonly name: string;
  readonly policy: GatePolicy;
  readonly clock: Clock;
  readonly onBreaker?: ((change: BreakerChange) => void) | undefined;
}

export interface Gate {
  /** Throws what the work throws; TOOMANYREQUESTS or UNAVAILABLE, with a Retry-After, where it is not done; or the signal's reason. */
  run<T>(kind: CallKind, work: () => Promise<T>, options?: CallOptions): Promise<T>;
  /** The same, for what is under way until its body is over. */
  open(work: () => Promise<BlobBody>, options?: CallOptions): Promise<BlobBody>;
  readonly pace: Pace;
  /** The same way for another client of the registry: what one was limited to is not what the other is. */
  forAnother(): Gate;
}

/** Goes along with every request to the registry itself. */
export interface Pace {
  /** Waits until the request may be sent. Throws TOOMANYREQUESTS, or the signal's reason. */
  turn(signal?: AbortSignal): Promise<void>;
  heard(headers: ResponseHeaders): void;
}

const DEFAULT_QUEUE = 1000;

export function createGate({ name, policy, clock, onBreaker }: GateOptions): Gate {
  const { concurrency, queue = DEFAULT_QUEUE, rate, breaker } = policy;
  const takeTurn = rate && createTurns({ name, rate, clock });
  const slotsOf = (count: number) => createSlots({ name, concurrency: count, maxWaiting: queue });
  const takeSlot = concurrency === undefined ? undefined : slotsOf(concurrency);
  const takeBlobSlot = concurrency === undefined || concurrency === 1 ? undefined : slotsOf(concurrency - 1);
  const guard = breaker?.failures
    ? createBreaker({ name, ...breaker, clock, onChange: onBreaker })
    : <T>(work: () => Promise<T>) => work();
  const forAnother = () =>
    createWay({ guard, takeSlot, takeBlobSlot, takeTurn, quiet: createQuiet(name, clock), forAnother });
  return forAnother();
}

interface WayDeps extends Pick<Gate, 'forAnother'> {
  readonly guard: Breaker;
  readonly takeSlot: TakeSlot | undefined;
  /** Taken before the other, by what may take long. */
  readonly takeBlobSlot: TakeSlot | undefined;
  readonly takeTurn: ReturnType<typeof createTurns> | undefined;
  readonly quiet: Quiet;
}

function createWay({ guard, takeSlot, takeBlobSlot, takeTurn, quiet, forAnother }: WayDeps): Gate {
  async function attempt<T>(kind: CallKind, work: () => Promise<T>): Promise<T> {
    quiet.require(kind);
    try {
      return await guard(work);
    } catch (error) {
      quiet.refused(error);
      throw error;
    }
  }

  async function takeBoth(signal: AbortSignal | undefined): Promise<() => void> {
    const freeBlob = await takeBlobSlot?.(signal);
    try {
      const free = await takeSlot?.(signal);
      return () => {
        free?.();
        freeBlob?.();
      };
    } catch (error) {
      freeBlob?.();
      throw error;
    }
  }

  return {
    forAnother,
    async run(kind, work, { signal } = {}) {
      const free = await takeSlot?.(signal);
      try {
        return await attempt(kind, work);
      } finally {
        free?.();
      }
    },
    async open(work, { signal } = {}) {
      const free = await takeBoth(signal);
      try {
        const { body, size } = await attempt('other', work);
        return { body: takeSlot ? freeingAtEnd(body, free) : body, size };
      } catch (error) {
        free();
        throw error;
      }
    },
    pace: {
      turn: async signal => takeTurn?.(signal),
      heard: quiet.heard,
    },
  };
}
