// Figures of both sides, taken in turns, so that what else the machine does meets both.

export interface Figures {
  readonly veneer: number;
  readonly peer: number;
}

export type Side = keyof Figures;

/** Of all pairs of a row. */
export interface Comparison extends Figures {
  /** The median of Veneer divided by its peer, pair by pair. */
  readonly ratio: number;
  /** Between these lies the ratio of a run without end: in 87 of 100 runs of 7 pairs, if pairs do not depend on each other. */
  readonly low: number;
  readonly high: number;
}

/** Measures one side, then the other. Every other pair begins with the peer. */
export async function inTurn<T>(pair: number, measure: (side: Side) => Promise<T>): Promise<Record<Side, T>> {
  if (pair % 2 === 0) return { veneer: await measure('veneer'), peer: await measure('peer') };
  const peer = await measure('peer');
  return { veneer: await measure('veneer'), peer };
}

/** One of several figures that were taken of each side at once. */
export function pick<Key extends string>(taken: Record<Side, Readonly<Record<Key, number>>>, key: Key): Figures {
  return { veneer: taken.veneer[key], peer: taken.peer[key] };
}

export function compare(pairs: readonly Figures[]): Comparison {
  const ratios = pairs.map(({ veneer, peer }) => veneer / peer).sort((a, b) => a - b);
  // Of 7 pairs the lowest and the highest are left out, of 13 two of each.
  const inner = ratios.slice(Math.floor((ratios.length - 1) / 6));
  const low = inner[0];
  const high = ratios[ratios.length - 1 - (ratios.length - inner.length)];
  if (low === undefined || high === undefined) throw new Error('nothing was measured');
  return {
    veneer: median(pairs.map(({ veneer }) => veneer)),
    peer: median(pairs.map(({ peer }) => peer)),
    ratio: median(ratios),
    low,
    high,
  };
}

export function median(figures: readonly number[]): number {
  const middle = figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)];
  if (middle === undefined) throw new Error('nothing was measured');
  return middle;
}
