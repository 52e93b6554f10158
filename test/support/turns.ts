// How often others have their turn while something is done.

/** Runs the work, and counts the turns of the event loop meanwhile. */
export async function countTurns<T>(work: () => Promise<T>): Promise<{ readonly result: T; readonly turns: number }> {
  let turns = 0;
  let isOver = false;
  const next = () => {
    turns += 1;
    if (!isOver) setImmediate(next);
  };
  setImmediate(next);
  const result = await work();
  isOver = true;
  return { result, turns };
}
