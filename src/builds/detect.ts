// Which builders this machine has, where the configuration names none.
import type { Backend } from './backend.ts';
import type { Environment } from './environment.ts';

export interface DetectOptions {
  readonly environment: Environment;
  readonly signal: AbortSignal;
  /** Told of one whose look failed unexpectedly: the others are there all the same. */
  readonly onFault?: (error: unknown) => void;
  /** Told what was looked for and why it is not there, one line for the start log. */
  readonly onMiss: (reason: string) => void;
}

/** Looks for one kind of builder; undefined where it is not there or does not answer within seconds. Throws only the signal's reason. */
export type Detect = (options: DetectOptions) => Promise<Backend | undefined>;

/** Those that are there, in the order of the list; all are looked for at once. */
export async function detectBackends(detects: readonly Detect[], options: DetectOptions): Promise<readonly Backend[]> {
  const found = await Promise.all(
    detects.map(async detect => {
      try {
        return await detect(options);
      } catch (error) {
        options.signal.throwIfAborted();
        options.onFault?.(error);
        return undefined;
      }
    }),
  );
  return found.filter(backend => backend !== undefined);
}
