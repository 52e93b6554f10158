// Runs buildah: always on the same storage, and with a HOME of the build's own.
import { join } from 'node:path';
import { failUnavailable } from '../../execution.ts';
import {
  childEnvironment,
  type Environment,
  type ProcessEnd,
  type ProcessOptions,
  readProcess,
  runProcess,
} from '../../process.ts';
import { type StorageOptions, storageArguments } from './command.ts';
import type { Workspace } from './workspace.ts';

export interface Client {
  /** The output of a command on the storage. Throws BackendUnavailable, or the signal's reason. */
  read(args: readonly string[], signal: AbortSignal): Promise<string>;
  /** Runs a command on the storage to its end, in this user's own home. Throws BackendUnavailable, or the signal's reason. */
  probe(args: readonly string[], options: TryOptions): Promise<ProcessEnd>;
  /** Runs a command of a build to its end. Throws BuildFailure where it cannot be started, or the signal's reason. */
  run(workspace: Workspace, args: readonly string[], options: RunOptions): Promise<ProcessEnd>;
}

type TryOptions = Required<Pick<ProcessOptions, 'signal' | 'onLine'>> & {
  /** A command that wraps buildah. */
  readonly wrapper?: readonly string[];
};
export type RunOptions = TryOptions;

const ANSWER_MS = 30_000;
/** Time for buildah to remove its working containers. */
const GRACE_MS = 10_000;

export function createClient({
  command,
  environment,
  ...storage
}: StorageOptions & { readonly command: string; readonly environment: Environment }): Client {
  const { HOME, XDG_DATA_HOME, CONTAINERS_STORAGE_CONF } = environment;
  // Rootless storage is in this user's home, whatever HOME the process gets.
  const data = XDG_DATA_HOME ?? (HOME && join(HOME, '.local', 'share'));
  const own = { HOME, XDG_DATA_HOME: data, CONTAINERS_STORAGE_CONF };
  const global = storageArguments(storage);

  function start(
    args: readonly string[],
    { wrapper = [], ...options }: TryOptions & Pick<ProcessOptions, 'env'>,
  ): Promise<ProcessEnd> {
    const [program = command, ...rest] = [...wrapper, command, ...global, ...args];
    return runProcess(program, rest, { ...options, graceMs: GRACE_MS });
  }

  return {
    probe: (args, options) => start(args, { ...options, env: childEnvironment(environment, own) }),
    read(args, signal) {
      const env = childEnvironment(environment, own);
      return readProcess(command, [...global, ...args], { env, signal, timeoutMs: ANSWER_MS });
    },
    run({ home, temporary }, args, options) {
      const env = childEnvironment(environment, { ...own, HOME: home, TMPDIR: temporary });
      return start(args, { ...options, env }).catch(failUnavailable);
    },
  };
}
