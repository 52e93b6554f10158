// A budget for work whose length strangers decide, in the thread that serves everybody: it is bounded, and yields to other work in between.
import { setImmediate as turn } from 'node:timers/promises';

/** `message` says what exceeded the budget, and how to need less. */
export class WorkLimitExceeded extends Error {
  override readonly name = 'WorkLimitExceeded';
}

export interface Work {
  /** Called as the work is done, in pieces of a few milliseconds at most. Throws WorkLimitExceeded. */
  spend(steps: number): void;
  /** Awaited between such pieces: yields to other work when it is time. Rejects with the signal's reason. */
  rest(): Promise<void>;
}

export interface WorkOptions {
  readonly maxSteps: number;
  /** What the work is, and how to need less, such as "the patterns of .dockerignore: use fewer wildcards". */
  readonly what: string;
  readonly signal?: AbortSignal | undefined;
}

const SLICE_MS = 10;

export function createWork({ maxSteps, what, signal }: WorkOptions): Work {
  let left = maxSteps;
  let since = performance.now();
  return {
    spend(steps) {
      left -= steps;
      if (left < 0) throw new WorkLimitExceeded(`more than ${maxSteps} steps for ${what}`);
    },
    async rest() {
      if (performance.now() - since < SLICE_MS) return;
      await turn();
      signal?.throwIfAborted();
      since = performance.now();
    },
  };
}
