// Eviction: content goes, the longest unused first, in small steps beside all that is served. A reader that has begun goes on from its open file.
import { setImmediate } from 'node:timers/promises';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Counted, Usage, Used } from './usage.ts';

/** How much content there may be. */
export interface Budget {
  /** Above it content goes; undefined: any amount stays. */
  readonly highBytes: number | undefined;
  /** Until so much is left. */
  readonly lowBytes: number;
  /** How long content stays that nobody uses; undefined: for ever. */
  readonly maxAgeMs: number | undefined;
  /** How many contents there may be: each takes some memory. Default: any number. */
  readonly maxCount?: number | undefined;
}

/** What is to go: the longest unused until `toBytes` and `toCount` are left, and all that was last used before `usedBefore`. */
export interface EvictionGoal {
  readonly toBytes?: number | undefined;
  readonly toCount?: number | undefined;
  /** In milliseconds. */
  readonly usedBefore?: number | undefined;
  /** Whether content stays this time, beside what is pinned. */
  readonly stays?: ((digest: Digest) => Promise<boolean>) | undefined;
  /** Counts, and removes nothing. */
  readonly dryRun?: boolean | undefined;
}

export interface Evicted {
  readonly count: number;
  readonly bytes: number;
}

/**
 * Removes what the goal names, as far as it is neither pinned nor arriving. Yields what has gone so far after each step, and in the end.
 * Throws the reason of `signal` where that stops it; so does its reader by leaving.
 */
export type Evict = (goal: EvictionGoal, signal?: AbortSignal) => AsyncGenerator<Evicted, void>;

/** As many go in one step, and as many are looked at before others have their turn. */
const STEP = 32;

export function createEvict(deps: {
  readonly content: Pick<ContentStore, 'delete'>;
  readonly usage: Usage;
  readonly isArriving: (digest: Digest) => boolean;
  /** Whether content stays whatever happens. */
  readonly isPinned: (digest: Digest) => Promise<boolean>;
  /** Called before content goes: what refers to it goes first. */
  readonly unlink: (digests: readonly Digest[]) => Promise<void>;
}): Evict {
  const { content, usage, isArriving, isPinned, unlink } = deps;

  /** Others have their turn meanwhile: what is used again, or brought again, stays. */
  async function remove(victims: readonly Counted[]): Promise<readonly Counted[]> {
    await unlink(victims.map(({ digest }) => digest));
    const removed = victims.filter(used => !isArriving(used.digest) && usage.find(used.digest)?.use === used.use);
    for (const { digest } of removed) usage.forget(digest);
    await Promise.all(removed.map(({ digest }) => content.delete(digest)));
    return removed;
  }

  return async function* evict(goal, signal) {
    const { toBytes = Number.POSITIVE_INFINITY, toCount = Number.POSITIVE_INFINITY } = goal;
    const { usedBefore = Number.NEGATIVE_INFINITY, stays, dryRun } = goal;
    let evicted: Evicted = { count: 0, bytes: 0 };
    let step: Counted[] = [];
    // Of what is to go, and still counted.
    let leavingBytes = 0;
    let visits = usage.count;

    async function finishStep(): Promise<void> {
      evicted = addAll(evicted, dryRun ? step : await remove(step));
      if (!dryRun) leavingBytes = 0;
      step = [];
    }

    for (const used of usage.oldest()) {
      signal?.throwIfAborted();
      // What is used from now on is behind all that was there.
      const isEnough = usage.bytes - leavingBytes <= toBytes && usage.count - step.length <= toCount;
      if (visits === 0 || (isEnough && used.usedAt >= usedBefore)) break;
      visits -= 1;
      if (visits % STEP === 0) await setImmediate();
      if (isArriving(used.digest) || (await isPinned(used.digest)) || (await stays?.(used.digest))) continue;
      step.push(used);
      leavingBytes += used.size;
      if (step.length < STEP) continue;
      await finishStep();
      yield evicted;
    }
    await finishStep();
    yield evicted;
  };
}

function addAll({ count, bytes }: Evicted, gone: readonly Used[]): Evicted {
  return { count: count + gone.length, bytes: gone.reduce((sum, { size }) => sum + size, bytes) };
}
