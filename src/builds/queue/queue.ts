// Runs a bounded number of jobs at a time, in a fair order: higher priorities first, and round-robin among the callers of one priority, so
// that a caller with a hundred jobs does not hold up a caller with one.

export interface Queue<T> {
  readonly waiting: number;
  readonly running: number;
  add(item: T, entry: QueueEntry): void;
  /** Whether it is queued: not running. */
  has(item: T): boolean;
  /** Removes a queued item, and returns whether it was queued; a running one stays. */
  remove(item: T): boolean;
  /** Moves a queued item up; never down. */
  raise(item: T, entry: QueueEntry): void;
  /** Starts running items; until then all stay queued. */
  open(): void;
  /** Starts no more items. Resolves when the running ones have ended. */
  close(): Promise<void>;
}

interface QueueOptions<T> {
  readonly concurrency: number;
  /** How many items of anonymous callers may run at a time; default: `concurrency`. */
  readonly maxAnonymous?: number | undefined;
  /** Whether an item runs only while nothing else does; such items go first. */
  readonly mustRunAlone?: (item: T) => boolean;
  /** Must not reject. */
  readonly run: (item: T) => Promise<void>;
}

export function createQueue<T>({
  concurrency,
  maxAnonymous = concurrency,
  mustRunAlone = () => false,
  run,
}: QueueOptions<T>): Queue<T> {
  const waiting = createFairQueue<T>();
  const active = new Set<Promise<void>>();
  const callers = new Map<T, string>();
  const exclusives = new Set<T>();
  let anonymous = 0;
  let isOpen = false;

  function runNext(): void {
    const [exclusive] = exclusives;
    if (isOpen && exclusive !== undefined) {
      if (active.size > 0) return;
      // It stays in the set until it has ended, and blocks the others until then.
      begin(exclusive, () => exclusives.delete(exclusive));
      return;
    }
    while (isOpen && active.size < concurrency) {
      const item = waiting.take(caller => caller === '' && anonymous >= maxAnonymous);
      if (item === undefined) return;
      begin(item);
    }
  }

  function begin(item: T, onDone: () => unknown = () => {}): void {
    const isAnonymous = callers.get(item) === '';
    callers.delete(item);
    if (isAnonymous) anonymous += 1;
    const done = run(item).finally(() => {
      active.delete(done);
      if (isAnonymous) anonymous -= 1;
      onDone();
      runNext();
    });
    active.add(done);
  }

  function add(item: T, entry: QueueEntry): void {
    if (mustRunAlone(item)) exclusives.add(item);
    else waiting.add(item, entry);
    callers.set(item, entry.caller);
    runNext();
  }

  function take(item: T): boolean {
    // One that runs alone is still among the exclusives, but not among the callers.
    const wasQueued = callers.has(item) && (exclusives.delete(item) || waiting.remove(item));
    if (wasQueued) callers.delete(item);
    return wasQueued;
  }

  return {
    get waiting() {
      return callers.size;
    },
    get running() {
      return active.size;
    },
    add,
    has: item => callers.has(item),
    remove(item) {
      const wasQueued = take(item);
      // Others may have waited for it to run alone.
      if (wasQueued) runNext();
      return wasQueued;
    },
    raise(item, entry) {
      if (take(item)) add(item, entry);
    },
    open() {
      isOpen = true;
      runNext();
    },
    async close() {
      isOpen = false;
      await Promise.all(active);
    },
  };
}

interface QueueEntry {
  readonly caller: string;
  readonly priority: number;
}

interface FairQueue<T> {
  readonly size: number;
  add(item: T, entry: QueueEntry): void;
  /** Removes and returns the next item, skipping callers that have to wait; undefined if there is none. */
  take(isBlocked?: (caller: string) => boolean): T | undefined;
  /** Returns whether it was queued. */
  remove(item: T): boolean;
}

/** The items of each caller; the caller who is served next comes first. */
type Callers<T> = Map<string, Set<T>>;

export function createFairQueue<T>(): FairQueue<T> {
  const entries = new Map<T, QueueEntry>();
  const priorities = new Map<number, Callers<T>>();

  function take(item: T, { caller, priority }: QueueEntry): void {
    entries.delete(item);
    const callers = priorities.get(priority);
    const items = callers?.get(caller);
    items?.delete(item);
    if (items?.size === 0) callers?.delete(caller);
    if (callers?.size === 0) priorities.delete(priority);
  }

  function first(isBlocked: (caller: string) => boolean): T | undefined {
    for (const priority of [...priorities.keys()].sort((a, b) => b - a)) {
      for (const [caller, items] of priorities.get(priority) ?? []) {
        if (!isBlocked(caller)) return items.values().next().value;
      }
    }
    return undefined;
  }

  return {
    get size() {
      return entries.size;
    },
    add(item, entry) {
      const { caller, priority } = entry;
      const callers: Callers<T> = priorities.get(priority) ?? new Map();
      priorities.set(priority, callers.set(caller, (callers.get(caller) ?? new Set()).add(item)));
      entries.set(item, entry);
    },
    take(isBlocked = () => false) {
      const item = first(isBlocked);
      const entry = item !== undefined && entries.get(item);
      if (!entry) return undefined;
      take(item, entry);
      moveToEnd(priorities.get(entry.priority), entry.caller);
      return item;
    },
    remove(item) {
      const entry = entries.get(item);
      if (entry) take(item, entry);
      return entry !== undefined;
    },
  };
}

function moveToEnd<T>(callers: Callers<T> | undefined, caller: string): void {
  const items = callers?.get(caller);
  if (!items) return;
  callers?.delete(caller);
  callers?.set(caller, items);
}
