// Keeps the cache within its budget: as content grows, periodically, and when the disk is full. Nothing is evicted before everything on the
// disk has been counted, which runs in the background.
import { type Need, OverBudget, type SpaceClaim } from '../../content/free-space.ts';
import type { Budget, Evict, Evicted, EvictionGoal } from './evict.ts';
import type { Usage, Used, UseTimes } from './usage.ts';

export interface EvictionRun extends Evicted {
  readonly reason: 'budget' | 'number' | 'age' | 'full disk';
  /** What is left. */
  readonly leftBytes: number;
  /** Whether more is left than allowed, because it is pinned. */
  readonly isShort: boolean;
}

export interface Housekeeping {
  /** Whether everything on the disk has been counted. */
  readonly isCounted: boolean;
  /** Resolves when it has; rejects if counting failed. */
  readonly counted: Promise<void>;
  /**
   * Reserves budget for incoming content as it grows, evicting older content meanwhile. Throws OverBudget where that is not enough, which
   * for content larger than the budget is at once.
   */
  claim(need: Need): SpaceClaim;
  /** To be called after content was stored: returns at once. */
  check(): void;
  /**
   * To be called when there was no disk space for content of this size: returns at once. Evicts nothing for content that would not fit
   * anyway.
   */
  makeRoom(bytes: number): void;
  /** To be called every few minutes: evicts content that is too old. */
  sweep(): Promise<void>;
  /** Stops a running eviction. */
  close(): Promise<void>;
}

/** How much a full disk evicts at least, as a fraction of the total: otherwise each blob would wait for its own eviction. */
const FREED_PART = 0.05;

/** Content up to this size is small, such as manifests and configs, and always finds room while larger content fills its share. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** The share of the budget for all incoming content that is not small. */
const LARGE_PART = 7 / 8;
/** The share for all incoming content of unknown size, which may never end and must not push everything else out. */
const UNSIZED_PART = 1 / 2;

/** The fraction of the maximum number of items that is left after an eviction. */
const LEFT_PART = 0.9;

export function createHousekeeping(deps: {
  readonly usage: Usage;
  readonly times: Pick<UseTimes, 'read'>;
  readonly evict: Evict;
  readonly budget: Budget;
  readonly now: () => Date;
  /** Runs one eviction at a time, of all processes that share the content. Default: this process alone has it. */
  readonly exclusively?: (<T>(work: () => Promise<T>) => Promise<T>) | undefined;
  /** What other processes have reserved for incoming content, in bytes. Default: nothing. */
  readonly arrivingElsewhere?: (() => number) | undefined;
  /** Called with what is reserved here, whenever it changes. */
  readonly onArriving?: ((bytes: number) => void) | undefined;
  /** Called after each eviction that removed something, or could not remove enough. */
  readonly onEvicted: (run: EvictionRun) => void;
  readonly onFailed: (error: unknown) => void;
  /** Nothing is read from the disk before it resolves. Default: at once. */
  readonly mayBegin?: Promise<void> | undefined;
}): Housekeeping {
  const { usage, times, evict, budget, now, onEvicted, onFailed, mayBegin } = deps;
  const { exclusively = work => work(), arrivingElsewhere = () => 0, onArriving } = deps;
  const closing = new AbortController();
  let isCounted = false;
  let running: Promise<void> | undefined;
  // When pinned content alone exceeds the budget, an eviction for each new blob would only remove what just arrived.
  let shortBytes = 0;
  let shortCount = 0;
  // The size after the last eviction.
  let removed = 0;
  // Reserved for incoming content.
  const arriving = { all: 0, large: 0, unsized: 0 };
  const allArriving = () => arriving.all + arrivingElsewhere();

  async function count(): Promise<void> {
    await untilAborted(mayBegin, closing.signal);
    const found: Used[] = [];
    for await (const used of times.read(closing.signal)) found.push(used);
    await usage.load(found);
    isCounted = true;
  }

  async function run(reason: EvictionRun['reason'], goal: EvictionGoal): Promise<void> {
    let evicted: Evicted = { count: 0, bytes: 0 };
    await exclusively(async () => {
      for await (evicted of evict(goal, closing.signal));
    });
    const { toBytes = Number.POSITIVE_INFINITY, toCount = Number.POSITIVE_INFINITY } = goal;
    const isShort = usage.bytes > toBytes || usage.count > toCount;
    if (evicted.count > 0 || isShort) onEvicted({ ...evicted, reason, leftBytes: usage.bytes, isShort });
    removed = evicted.count;
    shortBytes = usage.bytes > toBytes && removed === 0 ? usage.bytes : 0;
    shortCount = usage.count > toCount && removed === 0 ? usage.count : 0;
  }

  /** One eviction at a time. Undefined where one is already running: the next one checks what it leaves. */
  function start(reason: EvictionRun['reason'], goal: EvictionGoal): void {
    if (running || !isCounted || closing.signal.aborted) return;
    running = run(reason, goal)
      .catch(error => {
        if (!closing.signal.aborted) onFailed(error);
      })
      .finally(() => {
        running = undefined;
        // What arrived meanwhile.
        check();
      });
  }

  function check(): void {
    checkBytes();
    checkCount();
  }

  function checkCount(): void {
    const { maxCount = Number.POSITIVE_INFINITY } = budget;
    const isKnownShort = shortCount > 0 && usage.count < shortCount * (2 - LEFT_PART);
    if (usage.count > maxCount && !isKnownShort) start('number', { toCount: Math.floor(maxCount * LEFT_PART) });
  }

  function checkBytes(): void {
    const { highBytes, lowBytes } = budget;
    if (highBytes === undefined || usage.bytes + allArriving() <= highBytes) return;
    if (shortBytes > 0 && usage.bytes < shortBytes + (highBytes - lowBytes)) return;
    start('budget', { toBytes: Math.max(lowBytes - allArriving(), 0) });
  }

  function claim({ bytes: needBytes, isExact }: Need): SpaceClaim {
    const { highBytes = Number.POSITIVE_INFINITY, lowBytes } = budget;
    const group = isExact ? (needBytes <= SMALL_BYTES ? 'all' : 'large') : 'unsized';
    const most = { all: 1, large: LARGE_PART, unsized: UNSIZED_PART }[group] * highBytes;
    const groups = new Set(['all', group] as const);
    let taken = 0;

    function take(bytes: number): void {
      taken += bytes;
      for (const each of groups) arriving[each] += bytes;
      onArriving?.(arriving.all);
    }

    const isAllowed = (bytes: number) => arriving[group] + bytes <= most;
    /** The last run may have found nothing to evict, and nothing has arrived since. */
    const mayRemove = () => !closing.signal.aborted && (shortBytes === 0 || usage.bytes > shortBytes);
    const fits = (bytes: number) => isAllowed(bytes) && usage.bytes + allArriving() + bytes <= highBytes;

    async function makeFit(bytes: number): Promise<void> {
      await counted;
      // A run that was already in progress may have had another goal, and others may take the space it freed.
      for (let misses = 0; misses < 2 && isAllowed(bytes) && mayRemove(); misses = removed > 0 ? 0 : misses + 1) {
        start('budget', { toBytes: Math.max(lowBytes - allArriving() - bytes, 0) });
        await running;
        if (fits(bytes)) return take(bytes);
      }
      throw new OverBudget(`${taken} bytes are in use, and the budget of ${highBytes} has no room for ${bytes} more`);
    }

    return {
      async ensure() {
        if (needBytes <= most) return;
        throw new OverBudget(`${needBytes} bytes exceed the ${most} that content of this kind may take`);
      },
      grow(size) {
        const bytes = size - taken;
        if (!fits(bytes)) return makeFit(bytes);
        take(bytes);
        return undefined;
      },
      release: () => take(-taken),
    };
  }

  const counted = count();
  counted.then(check, error => {
    if (!closing.signal.aborted) onFailed(error);
  });
  return {
    get isCounted() {
      return isCounted;
    },
    counted,
    claim,
    check,
    makeRoom(bytes) {
      if (bytes > usage.bytes) return;
      start('full disk', { toBytes: Math.max(usage.bytes - Math.max(bytes, usage.bytes * FREED_PART), 0) });
    },
    async sweep() {
      if (budget.maxAgeMs !== undefined) start('age', { usedBefore: now().getTime() - budget.maxAgeMs });
      await running;
      check();
      await running;
    },
    async close() {
      closing.abort(new Error('the service is stopping'));
      await Promise.allSettled([counted, running]);
    },
  };
}

/** Throws the reason of the signal, should it abort first. */
async function untilAborted(awaited: Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort);
  await Promise.race([awaited, aborted.promise]).finally(() => signal.removeEventListener('abort', abort));
}
