// A load: the same work on many things, some of them at once.

/** Milliseconds until all of it is done. */
export async function time(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

export async function forEach<T>(items: Iterable<T>, parallel: number, work: (item: T) => Promise<unknown>) {
  const shared = Iterator.from(items);
  const worker = async () => {
    for (let next = shared.next(); !next.done; next = shared.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: parallel }, worker));
}

/** Items a second. */
export async function measureRate<T>(items: readonly T[], parallel: number, work: (item: T) => Promise<unknown>) {
  return items.length / ((await time(() => forEach(items, parallel, work))) / 1000);
}
