// Work that strangers can make long, in the thread that serves everybody: there is only so much of it, and others have their turn in between.
import { setImmediate as turn } from 'node:timers/promises';

/** `message` says what took too much, and what would take less. */
export class TooMuchWork extends Error {
  override readonly name = 'TooMuchWork';
}

export interface Work {
  /** To be called as the work is done, in pieces of a few milliseconds at most. Throws TooMuchWork. */
  spend(steps: number): void;
  /** To be awaited between such pieces: lets others have their turn where it is time to. Rejects with the signal's reason. */
  rest(): Promise<void>;
}

export interface WorkOptions {
  readonly maxSteps: number;
  /** What it is, and what would take less, such as "the patterns of .dockerignore: use fewer wildcards". */
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
      if (left < 0) throw new TooMuchWork(`more than ${maxSteps} steps for ${what}`);
    },
    async rest() {
      if (performance.now() - since < SLICE_MS) return;
      await turn();
      signal?.throwIfAborted();
      since = performance.now();
    },
  };
}
