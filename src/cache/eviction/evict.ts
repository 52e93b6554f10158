// Eviction: removes the least recently used content, in small steps between other work. A reader that has started continues from its open
// file.
import { setImmediate } from 'node:timers/promises';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Counted, Usage, Used } from './usage.ts';

/** The limits of the cache. */
export interface Budget {
  /** Evict above this size; undefined: unlimited. */
  readonly highBytes: number | undefined;
  /** Evict down to this size. */
  readonly lowBytes: number;
  /** How long unused content is retained; undefined: for ever. */
  readonly maxAgeMs: number | undefined;
  /** The maximum number of items, since each takes some memory. Default: unlimited. */
  readonly maxCount?: number | undefined;
}

/** What to evict: the least recently used until `toBytes` and `toCount` are met, and everything last used before `usedBefore`. */
export interface EvictionGoal {
  readonly toBytes?: number | undefined;
  readonly toCount?: number | undefined;
  /** In milliseconds. */
  readonly usedBefore?: number | undefined;
  /** Whether content is retained this time, in addition to pinned content. */
  readonly isRetained?: ((digest: Digest) => Promise<boolean>) | undefined;
  /** Only counts, and removes nothing. */
  readonly dryRun?: boolean | undefined;
}

export interface Evicted {
  readonly count: number;
  readonly bytes: number;
}

/**
 * Evicts according to the goal, except for pinned and arriving content. Yields the running total after each step and at the end. Throws the
 * reason of `signal` if that aborts; the consumer stops it by returning.
 */
export type Evict = (goal: EvictionGoal, signal?: AbortSignal) => AsyncGenerator<Evicted, void>;

/** How many are removed in a step, and how many examined before yielding. */
const STEP = 32;

export function createEvict(deps: {
  readonly content: Pick<ContentStore, 'delete'>;
  readonly usage: Usage;
  readonly isArriving: (digest: Digest) => boolean;
  /** Whether content must not be evicted. */
  readonly isPinned: (digest: Digest) => Promise<boolean>;
  /** Called before content is removed, to remove what refers to it first. */
  readonly unlink: (digests: readonly Digest[]) => Promise<void>;
}): Evict {
  const { content, usage, isArriving, isPinned, unlink } = deps;

  /** Other work runs in between: content that is used or fetched again meanwhile is retained. */
  async function remove(victims: readonly Counted[]): Promise<readonly Counted[]> {
    await unlink(victims.map(({ digest }) => digest));
    const removed = victims.filter(used => !isArriving(used.digest) && usage.find(used.digest)?.use === used.use);
    for (const { digest } of removed) usage.forget(digest);
    await Promise.all(removed.map(({ digest }) => content.delete(digest)));
    return removed;
  }

  return async function* evict(goal, signal) {
    const { toBytes = Number.POSITIVE_INFINITY, toCount = Number.POSITIVE_INFINITY } = goal;
    const { usedBefore = Number.NEGATIVE_INFINITY, isRetained, dryRun } = goal;
    let evicted: Evicted = { count: 0, bytes: 0 };
    let step: Counted[] = [];
    // Whether it is still there and to be evicted.
    let leavingBytes = 0;
    let visits = usage.count;

    async function finishStep(): Promise<void> {
      evicted = addAll(evicted, dryRun ? step : await remove(step));
      if (!dryRun) leavingBytes = 0;
      step = [];
    }

    for (const used of usage.oldest()) {
      signal?.throwIfAborted();
      // Anything used from now on sorts after all present content.
      const isEnough = usage.bytes - leavingBytes <= toBytes && usage.count - step.length <= toCount;
      if (visits === 0 || (isEnough && used.usedAt >= usedBefore)) break;
      visits -= 1;
      if (visits % STEP === 0) await setImmediate();
      if (isArriving(used.digest) || (await isPinned(used.digest)) || (await isRetained?.(used.digest))) continue;
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
