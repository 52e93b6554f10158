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

export interface QueueOptions<T> {
  readonly concurrency: number;
  /** Must not reject. */
  readonly serve: (item: T) => Promise<void>;
}

export function createQueue<T>({ concurrency, serve }: QueueOptions<T>): Queue<T> {
  const line = createLine<T>();
  const served = new Set<Promise<void>>();
  let isOpen = false;

  function serveNext(): void {
    while (isOpen && served.size < concurrency) {
      const item = line.next();
      if (item === undefined) return;
      const done = serve(item).finally(() => {
        served.delete(done);
        serveNext();
      });
      served.add(done);
    }
  }

  function add(item: T, place: Place): void {
    line.add(item, place);
    serveNext();
  }

  return {
    get waiting() {
      return line.size;
    },
    get running() {
      return served.size;
    },
    add,
    remove: line.remove,
    raise(item, place) {
      if (line.remove(item)) add(item, place);
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
