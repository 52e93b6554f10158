// The builder that talks to a BuildKit, wherever it runs, through buildctl.
import { isSamePlatform, type Platform } from '../../../oci/platform.ts';
import {
  type Backend,
  BackendUnavailable,
  type BuildOptions,
  type BuildOrder,
  type BuildResult,
} from '../../backend.ts';
import { childEnvironment, type Environment } from '../../environment.ts';
import { BuildFailure } from '../../maker.ts';
import { runProcess } from '../../process.ts';
import { readProcess } from '../../read-process.ts';
import { failUnavailable } from '../../unavailable.ts';
import { buildArguments } from './command.ts';
import { type BuildkitConnection, connectionArguments, isInOurNetwork } from './connection.ts';
import { describeFailure } from './failure.ts';
import { readMetadata } from './metadata.ts';
import { findNetworkObstacle, listNetworkNotes, networkOf, type StepNetwork, tellNetwork } from './network.ts';
import { findCommandObstacle } from './obstacle.ts';
import { createProgressReader, PROGRESS_LINE_LENGTH } from './progress.ts';
import { parseWorkers, WORKERS_FORMAT } from './workers.ts';
import { planWorkspace, writeWorkspace } from './workspace.ts';

interface BuildkitOptions extends BuildkitConnection {
  readonly name: string;
  /** What it is to build for, of all that it can; absent: all. */
  readonly platforms?: readonly Platform[] | undefined;
  /** Whether a RUN may have the network of this machine. */
  readonly hostNetwork?: boolean | undefined;
  /** The buildctl to run: a name in PATH or a path. */
  readonly command?: string | undefined;
  /** The service's: buildctl gets the part of it that childEnvironment passes on. */
  readonly environment: Environment;
}

const ANSWER_MS = 10_000;

export function createBuildkitBackend(options: BuildkitOptions): Backend {
  const { name, platforms, command = 'buildctl', environment } = options;
  const connection = connectionArguments(options);
  let known: StepNetwork | undefined;

  async function listPlatforms(signal: AbortSignal): Promise<readonly Platform[]> {
    const args = [...connection, 'debug', 'workers', '--format', WORKERS_FORMAT];
    const env = childEnvironment(environment, {});
    const { platforms: all, hasHostNetwork } = await readProcess(command, args, { env, signal, timeoutMs: ANSWER_MS })
      .then(parseWorkers)
      .catch(error => nameAddress(options.address, error));
    known = hasHostNetwork && (await isInOurNetwork(options.address)) ? shared : 'own';
    return platforms ? all.filter(one => platforms.some(other => isSamePlatform(one, other))) : all;
  }

  /** As long as it has not said otherwise, it is thought to share that of this machine. */
  const shared: StepNetwork = options.hostNetwork ? 'host' : 'none';

  async function build(order: BuildOrder, { signal, tell }: BuildOptions): Promise<BuildResult> {
    signal.throwIfAborted();
    const workspace = planWorkspace(order);
    await writeWorkspace(order, workspace);
    const progress = createProgressReader(order.platforms, tell);
    const env = childEnvironment(environment, { HOME: workspace.home, DOCKER_CONFIG: workspace.home });
    const steps = known ?? shared;
    tellNetwork(order.spec, steps, tell);
    const args = [...connection, ...buildArguments(order, workspace, networkOf(order.spec, steps))];
    const run = { env, signal, onLine: progress.read, maxLineLength: PROGRESS_LINE_LENGTH };
    const { code, endedBy } = await runProcess(command, args, run).catch(failUnavailable);
    progress.end();
    if (code === 0) return { digest: await readMetadata(workspace.metadata) };
    throw new BuildFailure(
      describeFailure({
        step: progress.findFailed(),
        complaint: progress.findComplaint(),
        end: endedBy ?? `exit code ${code}`,
      }),
    );
  }

  return {
    name,
    kind: 'buildkit',
    isMultiPlatform: true,
    listPlatforms,
    findObstacle: spec => findNetworkObstacle(spec, known ?? shared) ?? findCommandObstacle(spec),
    listNotes: () => listNetworkNotes(known ?? 'own'),
    build,
    close: async () => undefined,
  };
}

function nameAddress(address: string, error: unknown): never {
  if (!(error instanceof BackendUnavailable)) throw error;
  throw new BackendUnavailable(`BuildKit at ${address} does not answer: ${error.message}`, { cause: error });
}
