// What something costs in time of this thread: a machine that is busy with something else changes nothing of it.

/** The thread's time that the work takes, in milliseconds. */
export function measureThreadMs(work: () => unknown): number {
  const before = threadMs();
  work();
  return threadMs() - before;
}

/** For how long the work keeps the thread from all else at most: what it takes of the thread between two looks of a timer, in milliseconds. */
export async function measureLongestHoldMs(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let before = threadMs();
  const look = () => {
    const now = threadMs();
    longest = Math.max(longest, now - before);
    before = now;
  };
  const timer = setInterval(look, 5);
  await work();
  look();
  clearInterval(timer);
  return longest;
}

function threadMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
