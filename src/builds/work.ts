// A budget for work on the main thread whose amount depends on foreign input: it is bounded, and yields to other work in between.
import { setImmediate as yieldToOthers } from 'node:timers/promises';

/** The message says what exceeded the budget, and how to need less. */
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
  /** Describes the work, and how to need less, such as "the patterns of .dockerignore: use fewer wildcards". */
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
      await yieldToOthers();
      signal?.throwIfAborted();
      since = performance.now();
    },
  };
}
