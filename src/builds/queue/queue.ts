// Runs so many builds at a time, in a fair order: a higher priority first, and the callers of one priority in turn, so that nobody's hundred
// hold up somebody's one.

export interface Queue<T> {
  readonly waiting: number;
  readonly running: number;
  add(item: T, place: QueueEntry): void;
  /** Takes out one that waits, which it says; one that is served stays. */
  remove(item: T): boolean;
  /** Moves one that waits up; never down. */
  raise(item: T, place: QueueEntry): void;
  /** Begins to serve; until then all wait. */
  open(): void;
  /** Serves nobody any more. Resolves when those who are being served are done. */
  close(): Promise<void>;
}

interface QueueOptions<T> {
  readonly concurrency: number;
  /** How many of callers without a name are served at a time; default: as many as of others. */
  readonly maxAnonymous?: number | undefined;
  /** Who is served while nobody else is, and before all others. */
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
      // It leaves the set when it is done: until then it keeps out the others.
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
    // One that is served alone has left the callers.
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
  /** Takes out whose turn it is, but for callers that are to wait; undefined where nobody else waits. */
  take(hasToWait?: (caller: string) => boolean): T | undefined;
  /** Whether it waited. */
  remove(item: T): boolean;
}

/** The items of each caller; the caller whose turn it is comes first. */
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
