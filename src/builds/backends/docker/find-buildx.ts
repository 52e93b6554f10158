// Which buildx there is.
import { BackendUnavailable } from '../../backend.ts';
import { type ReadOptions, readProcess } from '../../read-process.ts';

const COMMANDS: readonly (readonly [string, ...string[]])[] = [['docker', 'buildx'], ['buildx']];
const ANSWER_MS = 10_000;

/** The plugin of docker, or else the program, with its first arguments. Throws BackendUnavailable where neither runs. */
export async function findBuildx(options: Pick<ReadOptions, 'env' | 'signal'>): Promise<readonly string[]> {
  for (const command of COMMANDS) if (await runs(command, options)) return command;
  throw new BackendUnavailable('neither `docker buildx` nor `buildx` runs; install the buildx plugin of docker');
}

async function runs(
  [program, ...first]: readonly [string, ...string[]],
  options: Pick<ReadOptions, 'env' | 'signal'>,
): Promise<boolean> {
  try {
    await readProcess(program, [...first, 'version'], { ...options, timeoutMs: ANSWER_MS });
    return true;
  } catch (error) {
    if (!(error instanceof BackendUnavailable)) throw error;
    return false;
  }
}
