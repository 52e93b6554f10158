// The line with a few desks: so many are served at a time.
import { createLine, type Place } from './line.ts';

export interface Queue<T> {
  readonly waiting: number;
  readonly running: number;
  add(item: T, place: Place): void;
  /** Takes out one that waits, which it says; one that is served stays. */
  remove(item: T): boolean;
  /** Moves one that waits up; never down. */
  raise(item: T, place: Place): void;
  /** Begins to serve; until then all wait. */
  open(): void;
  /** Serves nobody any more. Resolves when those who are being served are done. */
  close(): Promise<void>;
}

interface QueueOptions<T> {
  readonly concurrency: number;
  /** How many of callers without a name are served at a time; default: as many as of others. */
  readonly maxNameless?: number | undefined;
  /** Who is served while nobody else is, and before all others. */
  readonly mustBeAlone?: (item: T) => boolean;
  /** Must not reject. */
  readonly serve: (item: T) => Promise<void>;
}

export function createQueue<T>({
  concurrency,
  maxNameless = concurrency,
  mustBeAlone = () => false,
  serve,
}: QueueOptions<T>): Queue<T> {
  const line = createLine<T>();
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
      const item = line.next(caller => caller === '' && nameless >= maxNameless);
      if (item === undefined) return;
      begin(item);
    }
  }

  function begin(item: T, onDone: () => unknown = () => {}): void {
    const isNameless = callers.get(item) === '';
    callers.delete(item);
    if (isNameless) nameless += 1;
    const done = serve(item).finally(() => {
      served.delete(done);
      if (isNameless) nameless -= 1;
      onDone();
      serveNext();
    });
    served.add(done);
  }

  function add(item: T, place: Place): void {
    if (mustBeAlone(item)) loners.add(item);
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
