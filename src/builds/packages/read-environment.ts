// The YAML of an environment, read by a thread of its own for each: one at a time, within a time and a memory of its own.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import pLimit from 'p-limit';
import { RegistryError } from '../../oci/errors.ts';
import { InvalidBuild } from '../request.ts';
import { answerSchema, type EnvironmentAnswer, type EnvironmentQuestion } from './environment-thread.ts';

/** Throws InvalidBuild for what is no environment or costs too much to read, TOOMANYREQUESTS while too many wait. */
export type ReadEnvironment = (
  question: EnvironmentQuestion,
) => Promise<Exclude<EnvironmentAnswer, { readonly kind: 'fault' }>>;

interface EnvironmentLimits {
  readonly timeoutMs: number;
  readonly heapMib: number;
  readonly maxWaiting: number;
}

const LIMITS: EnvironmentLimits = { timeoutMs: 10_000, heapMib: 128, maxWaiting: 20 };

export function createReadEnvironment({ timeoutMs, heapMib, maxWaiting }: EnvironmentLimits = LIMITS): ReadEnvironment {
  const oneAtATime = pLimit(1);

  async function ask(question: EnvironmentQuestion): Promise<EnvironmentAnswer> {
    const worker = new Worker(new URL('./environment-thread.ts', import.meta.url), {
      workerData: question,
      resourceLimits: { maxOldGenerationSizeMb: heapMib },
    });
    // A thread that is ended may still break, of which nobody hears then: that would end the process.
    worker.on('error', () => undefined);
    try {
      const [answer] = await once(worker, 'message', { signal: AbortSignal.timeout(timeoutMs) });
      return answerSchema.parse(answer);
    } catch (cause) {
      throw new InvalidBuild(
        `packages.environment: YAML that cannot be read within ${timeoutMs / 1000} s and ${heapMib} MiB`,
        {
          cause,
        },
      );
    } finally {
      await worker.terminate();
    }
  }

  return async question => {
    if (oneAtATime.pendingCount >= maxWaiting) {
      throw new RegistryError('TOOMANYREQUESTS', 'too many environments are being read', { retryAfterSeconds: 5 });
    }
    const answer = await oneAtATime(() => ask(question));
    if (answer.kind === 'fault') throw new InvalidBuild(`packages.environment: ${answer.message}`);
    return answer;
  };
}
