// How buildah is run: always on the same storage, and with a home that is the build's.
import { join } from 'node:path';
import { childEnvironment, type Environment } from '../environment.ts';
import { type ProcessEnd, type ProcessOptions, runProcess } from '../process.ts';
import { readProcess } from '../read-process.ts';
import { failUnavailable } from '../unavailable.ts';
import { type StorageOptions, storageArguments } from './command.ts';
import type { Workspace } from './workspace.ts';

export interface ClientOptions extends StorageOptions {
  readonly command: string;
  readonly environment: Environment;
}

export interface Client {
  /** What a command of the storage answers. Throws BackendUnavailable, or the signal's reason. */
  read(args: readonly string[], signal: AbortSignal): Promise<string>;
  /** Runs a command of a build to its end. Throws BuildFailure where it cannot be started, or the signal's reason. */
  run(workspace: Workspace, args: readonly string[], options: RunOptions): Promise<ProcessEnd>;
}

export type RunOptions = Required<Pick<ProcessOptions, 'signal' | 'onLine'>>;

const ANSWER_MS = 30_000;
/** In which buildah removes the containers that it was working in. */
const GRACE_MS = 10_000;

export function createClient({ command, environment, ...storage }: ClientOptions): Client {
  const { HOME, XDG_DATA_HOME, CONTAINERS_STORAGE_CONF } = environment;
  // Without root the storage is in this user's home, whatever home the process gets.
  const data = XDG_DATA_HOME ?? (HOME && join(HOME, '.local', 'share'));
  const own = { HOME, XDG_DATA_HOME: data, CONTAINERS_STORAGE_CONF };
  const global = storageArguments(storage);
  return {
    read(args, signal) {
      const env = childEnvironment(environment, own);
      return readProcess(command, [...global, ...args], { env, signal, timeoutMs: ANSWER_MS });
    },
    run({ home, temporary }, args, { signal, onLine }) {
      const env = childEnvironment(environment, { ...own, HOME: home, TMPDIR: temporary });
      return runProcess(command, [...global, ...args], { env, signal, onLine, graceMs: GRACE_MS }).catch(
        failUnavailable,
      );
    },
  };
}
