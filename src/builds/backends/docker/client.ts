// How buildx is run: as a plugin of the docker command, or by itself. Both take the same arguments.
import { join } from 'node:path';
import { childEnvironment, type Environment } from '../../environment.ts';
import { type ProcessEnd, type ProcessOptions, runProcess } from '../../process.ts';
import { readProcess } from '../../read-process.ts';
import { failUnavailable } from '../../unavailable.ts';
import { findBuildx } from './find-buildx.ts';

export interface ClientOptions {
  /** What to run, with its first arguments; absent: what findBuildx finds. */
  readonly command?: readonly string[] | undefined;
  /** The engine, as DOCKER_HOST; absent: the environment's. */
  readonly host?: string | undefined;
  readonly environment: Environment;
}

interface Client {
  /** Where docker keeps what this user has set up: builders, contexts, plugins. */
  readonly folder: string;
  /** What a command of buildx answers. Throws BackendUnavailable, or the signal's reason. */
  read(args: readonly string[], options: ReadOptions): Promise<string>;
  /** Runs a command of buildx to its end. Throws BuildFailure where it cannot be started, or the signal's reason. */
  run(args: readonly string[], options: RunOptions): Promise<ProcessEnd>;
  /** Removes an image from the engine, where there is a docker command to do it with. Throws BackendUnavailable. */
  removeImage(name: string): Promise<void>;
}

interface ReadOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

interface RunOptions extends Pick<ProcessOptions, 'signal' | 'onLine' | 'maxLineLength'> {
  /** The home of this build, with its config.json. */
  readonly home: string;
  /** The file that pins the base images. */
  readonly sourcePolicy: string | undefined;
}

const REMOVE_MS = 30_000;

export function createClient({ command, host, environment }: ClientOptions): Client {
  const folder = environment.DOCKER_CONFIG ?? join(environment.HOME ?? '/', '.docker');
  const own = engineEnvironment(environment, { folder, host });
  const reading = childEnvironment(environment, { ...own, HOME: environment.HOME, DOCKER_CONFIG: folder });
  let found = command;

  async function find(signal: AbortSignal): Promise<readonly string[]> {
    found ??= await findBuildx({ env: reading, signal });
    return found;
  }

  async function read(args: readonly string[], options: ReadOptions): Promise<string> {
    const [program = 'buildx', ...first] = await find(options.signal);
    return await readProcess(program, [...first, ...args], { ...options, env: reading });
  }

  async function run(args: readonly string[], { home, sourcePolicy, ...options }: RunOptions): Promise<ProcessEnd> {
    const [program = 'buildx', ...first] = await find(options.signal);
    const ofBuild = { HOME: home, DOCKER_CONFIG: home, EXPERIMENTAL_BUILDKIT_SOURCE_POLICY: sourcePolicy };
    const env = childEnvironment(environment, { ...own, ...ofBuild });
    return await runProcess(program, [...first, ...args], { ...options, env });
  }

  async function removeImage(name: string): Promise<void> {
    const [program, plugin] = found ?? [];
    if (program === undefined || plugin !== 'buildx') return;
    const { signal } = new AbortController();
    await readProcess(program, ['image', 'rm', name], { env: reading, signal, timeoutMs: REMOVE_MS });
  }

  return { folder, removeImage, read, run: (args, options) => run(args, options).catch(failUnavailable) };
}

/** How the engine and the builder are found, whatever home the process gets. */
function engineEnvironment(
  environment: Environment,
  { folder, host }: { readonly folder: string; readonly host: string | undefined },
): Environment {
  const { DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, SSH_AUTH_SOCK } = environment;
  const { BUILDX_BUILDER, BUILDX_CONFIG } = environment;
  return {
    // A host that was configured is not to lose against a context.
    ...(host === undefined ? { DOCKER_HOST, DOCKER_CONTEXT } : { DOCKER_HOST: host }),
    ...{ DOCKER_TLS_VERIFY, DOCKER_CERT_PATH: DOCKER_CERT_PATH ?? (DOCKER_TLS_VERIFY && folder), SSH_AUTH_SOCK },
    ...{ BUILDX_BUILDER, BUILDX_CONFIG: BUILDX_CONFIG ?? join(folder, 'buildx') },
  };
}
