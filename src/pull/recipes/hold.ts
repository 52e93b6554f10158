// Waiting that ends: at a deadline, or when the one who waits leaves.

/** What `work` gives. Throws `late()` when that takes longer than `holdMs`, or the signal's reason when that aborts. */
export async function waitUntil<T>(
  { holdMs, signal }: { readonly holdMs: number; readonly signal?: AbortSignal | undefined },
  work: (signal: AbortSignal) => Promise<T>,
  late: () => Error,
): Promise<T> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), Math.max(0, holdMs));
  try {
    return await work(signal ? AbortSignal.any([signal, deadline.signal]) : deadline.signal);
  } catch (error) {
    throw deadline.signal.aborted && error === deadline.signal.reason ? late() : error;
  } finally {
    clearTimeout(timer);
  }
}
