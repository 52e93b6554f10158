// One figure of both sides, taken in turns, so that what else the machine does meets both.

export interface Figures {
  readonly veneer: number;
  readonly peer: number;
}

/** Takes both figures of a run; `run` counts from 0. */
export type Measure = (run: number) => Promise<Figures>;

/** The median of each side. */
export async function compare(runs: number, measure: Measure): Promise<Figures> {
  const figures: Figures[] = [];
  for (let run = 0; run < runs; run += 1) figures.push(await measure(run));
  return { veneer: median(figures.map(({ veneer }) => veneer)), peer: median(figures.map(({ peer }) => peer)) };
}

/** Measures one side, then the other. */
export async function inTurn(measure: (side: keyof Figures) => Promise<number>): Promise<Figures> {
  return { veneer: await measure('veneer'), peer: await measure('peer') };
}

export function median(figures: readonly number[]): number {
  const middle = figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)];
  if (middle === undefined) throw new Error('nothing was measured');
  return middle;
}
