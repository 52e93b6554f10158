// Runs a bounded number of jobs at a time, in a fair order: a higher priority first, and the callers of one priority in turn, so that one
// caller's hundred jobs do not hold up another's one.

export interface Queue<T> {
  readonly waiting: number;
  readonly running: number;
  add(item: T, place: QueueEntry): void;
  /** Removes a queued item, and returns whether it was queued; a running one stays. */
  remove(item: T): boolean;
  /** Moves a queued item up; never down. */
  raise(item: T, place: QueueEntry): void;
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
  const line = createFairQueue<T>();
  const served = new Set<Promise<void>>();
  const callers = new Map<T, string>();
  const loners = new Set<T>();
  let nameless = 0;
  let isOpen = false;

  function serveNext(): void {
    const [loner] = loners;
    if (isOpen && loner !== undefined) {
      if (served.size > 0) return;
      // It leaves the set when it has ended: until then it blocks the others.
      begin(loner, () => loners.delete(loner));
      return;
    }
    while (isOpen && served.size < concurrency) {
      const item = line.take(caller => caller === '' && nameless >= maxAnonymous);
      if (item === undefined) return;
      begin(item);
    }
  }

  function begin(item: T, onDone: () => unknown = () => {}): void {
    const isNameless = callers.get(item) === '';
    callers.delete(item);
    if (isNameless) nameless += 1;
    const done = run(item).finally(() => {
      served.delete(done);
      if (isNameless) nameless -= 1;
      onDone();
      serveNext();
    });
    served.add(done);
  }

  function add(item: T, place: QueueEntry): void {
    if (mustRunAlone(item)) loners.add(item);
    else line.add(item, place);
    callers.set(item, place.caller);
    serveNext();
  }

  function remove(item: T): boolean {
    // One that runs alone is still among the loners, but not among the callers.
    const hasWaited = callers.has(item) && (loners.delete(item) || line.remove(item));
    if (hasWaited) callers.delete(item);
    return hasWaited;
  }

  return {
    get waiting() {
      return callers.size;
    },
    get running() {
      return served.size;
    },
    add,
    remove,
    raise(item, place) {
      if (remove(item)) add(item, place);
    },
    open() {
      isOpen = true;
      serveNext();
    },
    async close() {
      isOpen = false;
      await Promise.all(served);
    },
  };
}

interface QueueEntry {
  readonly caller: string;
  readonly priority: number;
}

interface FairQueue<T> {
  readonly size: number;
  add(item: T, place: QueueEntry): void;
  /** Removes and returns the next item, skipping callers that have to wait; undefined if there is none. */
  take(hasToWait?: (caller: string) => boolean): T | undefined;
  /** Returns whether it was queued. */
  remove(item: T): boolean;
}

/** The items of each caller; the caller whose turn is next comes first. */
type Callers<T> = Map<string, Set<T>>;

export function createFairQueue<T>(): FairQueue<T> {
  const places = new Map<T, QueueEntry>();
  const priorities = new Map<number, Callers<T>>();

  function take(item: T, { caller, priority }: QueueEntry): void {
    places.delete(item);
    const callers = priorities.get(priority);
    const items = callers?.get(caller);
    items?.delete(item);
    if (items?.size === 0) callers?.delete(caller);
    if (callers?.size === 0) priorities.delete(priority);
  }

  function first(hasToWait: (caller: string) => boolean): T | undefined {
    for (const priority of [...priorities.keys()].sort((a, b) => b - a)) {
      for (const [caller, items] of priorities.get(priority) ?? []) {
        if (!hasToWait(caller)) return items.values().next().value;
      }
    }
    return undefined;
  }

  return {
    get size() {
      return places.size;
    },
    add(item, place) {
      const { caller, priority } = place;
      const callers: Callers<T> = priorities.get(priority) ?? new Map();
      priorities.set(priority, callers.set(caller, (callers.get(caller) ?? new Set()).add(item)));
      places.set(item, place);
    },
    take(hasToWait = () => false) {
      const item = first(hasToWait);
      const place = item !== undefined && places.get(item);
      if (!place) return undefined;
      take(item, place);
      passTurn(priorities.get(place.priority), place.caller);
      return item;
    },
    remove(item) {
      const place = places.get(item);
      if (place) take(item, place);
      return place !== undefined;
    },
  };
}

function passTurn<T>(callers: Callers<T> | undefined, caller: string): void {
  const items = callers?.get(caller);
  if (!items) return;
  callers?.delete(caller);
  callers?.set(caller, items);
}
