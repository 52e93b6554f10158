// Work that is only worth something as a whole: when one part fails, the others are stopped.

/** The results in the order of the work. Throws the first failure, once all parts have ended. */
export async function failFast<T>(
  work: readonly ((signal: AbortSignal) => Promise<T>)[],
  signal: AbortSignal,
): Promise<readonly T[]> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  const run = async (part: (signal: AbortSignal) => Promise<T>) => {
    try {
      return await part(either);
    } catch (error) {
      failures.push(error);
      stop.abort(new DOMException('another part of the build failed', 'AbortError'));
      throw error;
    }
  };
  const settled = await Promise.allSettled(work.map(run));
  if (failures.length > 0) throw failures[0];
  return settled.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
}
