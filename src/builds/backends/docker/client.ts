// How buildx is run: as a plugin of the docker command, or by itself. Both take the same arguments.
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { BuildCredentials } from '../../backend.ts';
import { BackendUnavailable, failUnavailable } from '../../execution.ts';
import {
  childEnvironment,
  type Environment,
  type ProcessEnd,
  type ProcessOptions,
  type ReadOptions,
  readProcess,
  runProcess,
} from '../../process.ts';
import { dockerConfig } from '../buildkit/workspace.ts';

export interface ClientOptions {
  /** The command with its first arguments; absent: what findBuildx finds. */
  readonly command?: readonly string[] | undefined;
  /** The engine, in the form of DOCKER_HOST; absent: that of the environment. */
  readonly host?: string | undefined;
  readonly environment: Environment;
}

interface Client {
  /** This user's docker folder, with its builders, contexts and plugins. */
  readonly folder: string;
  /** The output of a command of buildx. Throws BackendUnavailable, or the signal's reason. */
  read(args: readonly string[], options: { readonly signal: AbortSignal; readonly timeoutMs: number }): Promise<string>;
  /** Runs a command of buildx to its end. Throws BuildFailure where it cannot be started, or the signal's reason. */
  run(args: readonly string[], options: RunOptions): Promise<ProcessEnd>;
  /** Removes an image from the engine, if there is a docker command. Throws BackendUnavailable. */
  removeImage(name: string): Promise<void>;
}

interface RunOptions extends Pick<ProcessOptions, 'signal' | 'onLine' | 'maxLineLength'> {
  /** The HOME of this build, with its config.json. */
  readonly home: string;
  /** The path of the source policy. */
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

  async function read(
    args: readonly string[],
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<string> {
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

/** The variables that locate the engine and the builder, independent of HOME. */
function engineEnvironment(
  environment: Environment,
  { folder, host }: { readonly folder: string; readonly host: string | undefined },
): Environment {
  const { DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, SSH_AUTH_SOCK } = environment;
  const { BUILDX_BUILDER, BUILDX_CONFIG } = environment;
  return {
    // A configured host takes precedence over a context.
    ...(host === undefined ? { DOCKER_HOST, DOCKER_CONTEXT } : { DOCKER_HOST: host }),
    ...{ DOCKER_TLS_VERIFY, DOCKER_CERT_PATH: DOCKER_CERT_PATH ?? (DOCKER_TLS_VERIFY && folder), SSH_AUTH_SOCK },
    ...{ BUILDX_BUILDER, BUILDX_CONFIG: BUILDX_CONFIG ?? join(folder, 'buildx') },
  };
}

const COMMANDS: readonly (readonly [string, ...string[]])[] = [['docker', 'buildx'], ['buildx']];
const ANSWER_MS = 10_000;

/** The plugin of docker, else the standalone program, with its first arguments. Throws BackendUnavailable if neither runs. */
async function findBuildx(options: Pick<ReadOptions, 'env' | 'signal'>): Promise<readonly string[]> {
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

/** The settings that are copied: none is secret. */
const configSchema = z.object({
  currentContext: z.string().optional(),
  cliPluginsExtraDirs: z.array(z.string()).optional(),
});

type Config = z.output<typeof configSchema>;

/** Fills the folder that stands in for ~/.docker: the build's credentials, and otherwise the user's own set-up. `home` exists; `folder` is the
 * user's own. */
export async function writeDockerFolder(
  home: string,
  folder: string,
  credentials: ReadonlyMap<string, BuildCredentials>,
): Promise<void> {
  const { currentContext, cliPluginsExtraDirs = [] } = await readConfig(join(folder, 'config.json'));
  const plugins = [join(folder, 'cli-plugins'), ...cliPluginsExtraDirs];
  const config = { ...dockerConfig(credentials), currentContext, cliPluginsExtraDirs: plugins };
  await writeFile(join(home, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  await symlink(join(folder, 'contexts'), join(home, 'contexts'));
}

/** Empty if there is no valid one. */
async function readConfig(path: string): Promise<Config> {
  try {
    return configSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return {};
  }
}
