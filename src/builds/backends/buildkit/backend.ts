// The builder that drives a BuildKit through buildctl, wherever it runs, and how one is found on this machine.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isSamePlatform, normalizePlatform, type Platform } from '../../../oci/platform.ts';
import type { Backend, BuildInput, BuildOptions, BuildResult, Detect, DetectOptions } from '../../backend.ts';
import { withOlderArmVariants } from '../../bases.ts';
import { BackendUnavailable, BuildFailure, failUnavailable } from '../../execution.ts';
import { childEnvironment, type Environment, readProcess, runProcess } from '../../process.ts';
import { buildArguments, findUnsupportedArgument } from './command.ts';
import { describeFailure } from './failure.ts';
import {
  type BuildkitConnection,
  connectionArguments,
  findUnsupportedNetwork,
  listNetworkNotes,
  networkOf,
  reportNetwork,
  type StepNetwork,
  sharesOurNetwork,
} from './network.ts';
import { createProgressReader, PROGRESS_LINE_LENGTH } from './progress.ts';
import { planWorkspace, readMetadata, writeWorkspace } from './workspace.ts';

const ANSWER_MS = 10_000;

export function createBuildkitBackend(
  options: BuildkitConnection & {
    readonly name: string;
    /** Restricts what it builds for; absent: all that it can. */
    readonly platforms?: readonly Platform[] | undefined;
    /** Whether a RUN may have the network of this machine. */
    readonly hostNetwork?: boolean | undefined;
    /** The buildctl to run: a name in PATH or a path. */
    readonly command?: string | undefined;
    /** The service's: buildctl gets what childEnvironment lets through. */
    readonly environment: Environment;
  },
): Backend {
  const { name, platforms, command = 'buildctl', environment } = options;
  const connection = connectionArguments(options);
  let known: StepNetwork | undefined;

  async function listPlatforms(signal: AbortSignal): Promise<readonly Platform[]> {
    const args = [...connection, 'debug', 'workers', '--format', WORKERS_FORMAT];
    const env = childEnvironment(environment, {});
    const { platforms: all, hasHostNetwork } = await readProcess(command, args, { env, signal, timeoutMs: ANSWER_MS })
      .then(parseWorkers)
      .catch(error => nameAddress(options.address, error));
    known = hasHostNetwork && (await sharesOurNetwork(options.address)) ? shared : 'own';
    return platforms ? all.filter(one => platforms.some(other => isSamePlatform(one, other))) : all;
  }

  /** Until it has answered, it is assumed to share the network of this machine. */
  const shared: StepNetwork = options.hostNetwork ? 'host' : 'none';

  async function build(input: BuildInput, { signal, report }: BuildOptions): Promise<BuildResult> {
    signal.throwIfAborted();
    const workspace = planWorkspace(input);
    await writeWorkspace(input, workspace);
    const progress = createProgressReader(input.platforms, report);
    const env = childEnvironment(environment, { HOME: workspace.home, DOCKER_CONFIG: workspace.home });
    const steps = known ?? shared;
    reportNetwork(input.spec, steps, report);
    const args = [...connection, ...buildArguments(input, workspace, networkOf(input.spec, steps))];
    const run = { env, signal, onLine: progress.read, maxLineLength: PROGRESS_LINE_LENGTH };
    const { code, endedBy } = await runProcess(command, args, run).catch(failUnavailable);
    progress.end();
    if (code === 0) return { digest: await readMetadata(workspace.metadata) };
    throw new BuildFailure(
      describeFailure({
        step: progress.findFailed(),
        errorText: progress.findErrorText(),
        end: endedBy ?? `exit code ${code}`,
      }),
    );
  }

  return {
    name,
    kind: 'buildkit',
    isMultiPlatform: true,
    listPlatforms,
    findUnsupportedReason: spec => findUnsupportedNetwork(spec, known ?? shared) ?? findUnsupportedArgument(spec),
    listNotes: () => listNetworkNotes(known ?? 'own'),
    build,
    close: async () => undefined,
  };
}

function nameAddress(address: string, error: unknown): never {
  if (!(error instanceof BackendUnavailable)) throw error;
  throw new BackendUnavailable(`BuildKit at ${address} does not answer: ${error.message}`, { cause: error });
}

const ROOT_SOCKET = '/run/buildkit/buildkitd.sock';

/** Finds the first that answers: only BUILDKIT_HOST if that is set, else BuildKit's default sockets. */
export function detectBuildkit({
  command,
  rootSocket = ROOT_SOCKET,
}: {
  readonly command?: string;
  /** Where root's BuildKit listens. */
  readonly rootSocket?: string;
} = {}): Detect {
  return async options => {
    const addresses = await listAddresses(options.environment, rootSocket);
    if (addresses.length === 0) options.onMiss(`BuildKit: BUILDKIT_HOST is not set, and there is no ${rootSocket}`);
    for (const address of addresses) {
      const backend = createBuildkitBackend({ name: 'buildkit', address, command, environment: options.environment });
      if (await answers(backend, options)) return backend;
    }
    return undefined;
  };
}

async function listAddresses(environment: Environment, rootSocket: string): Promise<readonly string[]> {
  if (environment.BUILDKIT_HOST) return [environment.BUILDKIT_HOST];
  const runtime = environment.XDG_RUNTIME_DIR;
  const sockets = [rootSocket, ...(runtime ? [join(runtime, 'buildkit', 'buildkitd.sock')] : [])];
  const found = await Promise.all(sockets.map(async path => ((await isSocket(path)) ? [`unix://${path}`] : [])));
  return found.flat();
}

async function isSocket(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isSocket();
  } catch {
    // Absent, or not accessible for us.
    return false;
  }
}

async function answers(backend: Backend, { signal, onMiss }: DetectOptions): Promise<boolean> {
  try {
    await backend.listPlatforms(signal);
    return true;
  } catch (error) {
    if (!(error instanceof BackendUnavailable)) throw error;
    onMiss(error.message);
    return false;
  }
}

/** The label with the network that steps get: `host`, or one of their own. */
export const NETWORK_LABEL = 'org.mobyproject.buildkit.worker.network';

const platformSchema = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });

const workersSchema = z.array(
  z.object({
    platforms: z.array(platformSchema).nullish(),
    labels: z.record(z.string(), z.string()).nullish(),
  }),
);

/** The template for `buildctl debug workers --format`. */
const WORKERS_FORMAT = '{{json .}}';

interface Workers {
  /** Of all workers, normalised, without duplicates. */
  readonly platforms: readonly Platform[];
  /** Whether steps of any worker have the network of its machine. */
  readonly hasHostNetwork: boolean;
}

/** Throws BackendUnavailable for output that is no list of workers. */
export function parseWorkers(output: string): Workers {
  const workers = workersOf(output);
  return {
    platforms: withOlderArmVariants(workers.flatMap(worker => (worker.platforms ?? []).map(normalizePlatform))),
    hasHostNetwork: workers.some(({ labels }) => labels?.[NETWORK_LABEL] === 'host'),
  };
}

function workersOf(output: string): z.output<typeof workersSchema> {
  try {
    return workersSchema.parse(JSON.parse(output));
  } catch (cause) {
    throw new BackendUnavailable('the list of workers is not one that BuildKit gives', { cause });
  }
}
