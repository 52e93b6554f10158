// How far a file that is being written may be read, and a way to wait for more.

type Growth =
  /** Bytes before `available` are written, and more are to come. */
  | { readonly state: 'growing'; readonly available: number }
  /** All `size` bytes are written and the promised ones. */
  | { readonly state: 'verified'; readonly size: number }
  | { readonly state: 'failed'; readonly error: unknown };

export interface GrowthSignal {
  readonly current: Growth;
  /** Nothing changes unless more is available than before. */
  grow(available: number): void;
  change(next: Growth): void;
  /** Resolves at the next change. */
  changed(): Promise<void>;
}

export function createGrowthSignal(): GrowthSignal {
  let current: Growth = { state: 'growing', available: 0 };
  let next = Promise.withResolvers<void>();

  function change(growth: Growth): void {
    current = growth;
    next.resolve();
    next = Promise.withResolvers();
  }

  return {
    get current() {
      return current;
    },
    grow(available) {
      if (current.state === 'growing' && available > current.available) change({ state: 'growing', available });
    },
    change,
    changed: () => next.promise,
  };
}

/**
 * Waits until a reader of the bytes before `limit` may go on from `offset`, and returns the exclusive end of what it may read. Until all
 * is verified that is less than `limit`, so that no reader, of a part neither, ends well on bytes that prove wrong. Throws the failure.
 */
export async function readableEnd(growth: GrowthSignal, offset: number, limit: number): Promise<number> {
  for (;;) {
    const { current } = growth;
    if (current.state === 'failed') throw current.error;
    if (current.state === 'verified') return Math.min(current.size, limit);
    const end = Math.min(current.available, limit - 1);
    if (end > offset) return end;
    await growth.changed();
  }
}
