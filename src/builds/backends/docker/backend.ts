// The builder that Docker users have: buildx, on the engine itself or on a builder that was created with it.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatPlatform, isSamePlatform, type Platform } from '../../../oci/platform.ts';
import type { Backend, BuildInput, BuildOptions, BuildResult, Detect, PinnedBase } from '../../backend.ts';
import { hasStage } from '../../containerfile/stages.ts';
import { BackendUnavailable, BuildFailure, failUnavailable } from '../../execution.ts';
import type { Report } from '../../progress.ts';
import type { Compression, ContainerFileSpec } from '../../spec.ts';
import { cacheFields, csvFields, findUnsupportedArgument, outputFields } from '../buildkit/command.ts';
import { describeFailure } from '../buildkit/failure.ts';
import {
  findUnsupportedNetwork,
  listNetworkNotes,
  networkOf,
  reportNetwork,
  type StepNetwork,
  sharesOurNetwork,
} from '../buildkit/network.ts';
import { createProgressReader, PROGRESS_LINE_LENGTH } from '../buildkit/progress.ts';
import { FILE_NAME, planWorkspace, readMetadata, type Workspace, writeWorkspace } from '../buildkit/workspace.ts';
import { type Builder, parseBuilder } from './builder.ts';
import { type ClientOptions, createClient, writeDockerFolder } from './client.ts';

interface DockerOptions extends ClientOptions {
  readonly name: string;
  /** A builder of `buildx ls`; absent: the current one. */
  readonly builder?: string | undefined;
  /** Whether a RUN may have the network of this machine. */
  readonly hostNetwork?: boolean | undefined;
  /** Restricts what it builds for; absent: all that it can. */
  readonly platforms?: readonly Platform[] | undefined;
}

const ANSWER_MS = 10_000;
/** A builder in a container may have to be started first. */
const START_MS = 60_000;

export function createDockerBackend(options: DockerOptions): Backend {
  const { name, builder, platforms } = options;
  const client = createClient(options);
  /** The builder's last answer. */
  let known: (Builder & { readonly steps: StepNetwork }) | undefined;

  async function inspect(signal: AbortSignal): Promise<Builder> {
    const args = ['--debug', 'inspect', ...(builder === undefined ? [] : [builder])];
    const found = parseBuilder(await client.read(args, { signal, timeoutMs: ANSWER_MS }));
    if (found.platforms.length > 0 || !canStart(found)) return found;
    return parseBuilder(await client.read([...args, '--bootstrap'], { signal, timeoutMs: START_MS }));
  }

  async function findSteps({ hostNetworks }: Builder): Promise<StepNetwork> {
    const shared = await Promise.all(hostNetworks.map(sharesOurNetwork));
    if (!shared.includes(true)) return 'own';
    return options.hostNetwork ? 'host' : 'none';
  }

  async function ask(signal: AbortSignal): Promise<NonNullable<typeof known>> {
    const found = await inspect(signal);
    if (found.platforms.length === 0) {
      throw new BackendUnavailable(
        `the builder ${builder ?? 'in use'} of buildx does not run; see \`docker buildx ls\``,
      );
    }
    known = { ...found, steps: await findSteps(found) };
    return known;
  }

  async function listPlatforms(signal: AbortSignal): Promise<readonly Platform[]> {
    const { platforms: all } = await ask(signal);
    return platforms ? all.filter(one => platforms.some(other => isSamePlatform(one, other))) : all;
  }

  async function build(input: BuildInput, { signal, report }: BuildOptions): Promise<BuildResult> {
    signal.throwIfAborted();
    const found = known ?? (await ask(signal).catch(failUnavailable));
    if (input.cache && !found.hasCacheExport) {
      report({ kind: 'note', text: 'this builder keeps no layers in a registry: built without that cache' });
    }
    try {
      return await buildOn(found, input, { signal, report });
    } finally {
      if (found.keepsImages) await removeImage(input);
    }
  }

  async function buildOn(
    found: NonNullable<typeof known>,
    input: BuildInput,
    { signal, report }: BuildOptions,
  ): Promise<BuildResult> {
    const workspace = planWorkspace(input);
    await writeWorkspace(input, workspace);
    if (!found.hasSourcePolicies) await writePinnedFile(input, join(workspace.file, FILE_NAME), report);
    await writeDockerFolder(workspace.home, client.folder, input.credentials);
    const progress = createProgressReader(input.platforms, report);
    reportNetwork(input.spec, found.steps, report);
    const network = networkOf(input.spec, found.steps);
    const { code, endedBy } = await client.run(buildArguments(input, workspace, { ...found, builder, network }), {
      ...{ home: workspace.home, sourcePolicy: workspace.sourcePolicy },
      ...{ signal, onLine: progress.read, maxLineLength: PROGRESS_LINE_LENGTH },
    });
    progress.end();
    if (code === 0) return { digest: await readMetadata(workspace.metadata) };
    const errorText = progress.findErrorText().replace(/^ERROR: failed to build: /, 'error: ');
    throw new BuildFailure(
      describeFailure({ step: progress.findFailed(), errorText, end: endedBy ?? `exit code ${code}` }),
    );
  }

  /** The registry has the image; the engine keeps its layers in its own bounded build cache. */
  async function removeImage({ target }: BuildInput): Promise<void> {
    try {
      await client.removeImage(target.name);
    } catch (error) {
      // The build made no image, or a container uses it already.
      if (!(error instanceof BackendUnavailable)) throw error;
    }
  }

  return {
    name,
    kind: 'docker',
    /** False until the builder has answered: every builder can build one platform at a time. */
    get isMultiPlatform() {
      return known?.isMultiPlatform ?? false;
    },
    listPlatforms,
    findUnsupportedReason: spec =>
      findUnsupportedNetwork(spec, known?.steps ?? 'own') ?? findUnsupportedReason(spec, known),
    listNotes: () => listNetworkNotes(known?.steps ?? 'own'),
    build,
    close: async () => undefined,
  };
}

function canStart({ driver }: Builder): boolean {
  return driver === 'docker-container' || driver === 'kubernetes';
}

/** Finds the current builder of buildx, on this machine or where DOCKER_HOST says, if it answers. */
export function detectDocker(options: Pick<DockerOptions, 'command'> = {}): Detect {
  return async ({ environment, signal, onMiss }) => {
    const backend = createDockerBackend({ name: 'docker', ...options, environment });
    try {
      await backend.listPlatforms(signal);
      return backend;
    } catch (error) {
      if (!(error instanceof BackendUnavailable)) throw error;
      onMiss(`Docker: ${error.message}`);
      return undefined;
    }
  };
}

// The command that builds and pushes: a pure function of the build input. It holds no secret: every user can read arguments.

/** The arguments of buildx. */
export function buildArguments(
  input: BuildInput,
  workspace: Workspace,
  {
    builder,
    hasCacheExport,
    network,
  }: {
    /** Absent: the current one. */
    readonly builder: string | undefined;
    readonly hasCacheExport: boolean;
    /** Of a RUN. */
    readonly network: ContainerFileSpec['network'];
  },
): readonly string[] {
  const { spec, platforms, ssh, cache } = input;
  const layers = cache && hasCacheExport ? cacheFields(cache) : undefined;
  return [
    ...['build', ...(builder === undefined ? [] : ['--builder', builder])],
    ...['--file', join(workspace.file, FILE_NAME), '--platform', platforms.map(formatPlatform).join(',')],
    ...specArguments({ ...spec, network }),
    ...[...workspace.secrets].flatMap(([id, src]) => ['--secret', csvFields({ id, src })]),
    ...[...ssh].flatMap(([id, path]) => ['--ssh', `${id}=${path}`]),
    ...(layers ? ['--cache-to', layers.to, '--cache-from', layers.from] : []),
    ...['--output', outputFields(input), '--metadata-file', workspace.metadata, '--progress', 'rawjson'],
    workspace.context,
  ];
}

function specArguments({ args, labels, stage, network, attestations }: ContainerFileSpec): readonly string[] {
  const { sbom, provenance } = attestations;
  return [
    ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
    ...Object.entries(labels).flatMap(([name, value]) => ['--label', `${name}=${value}`]),
    ...(stage === undefined ? [] : ['--target', stage]),
    ...(network === 'default' ? [] : ['--network', network]),
    ...(network === 'host' ? ['--allow', 'network.host'] : []),
    // By default buildx adds provenance, which turns a single image into an index.
    ...[`--sbom=${sbom}`, `--provenance=${provenance === 'none' ? 'false' : `mode=${provenance}`}`],
  ];
}

/** Why the builder cannot build this spec; undefined if it can. Of an unknown builder only what holds for all. */
export function findUnsupportedReason(spec: ContainerFileSpec, builder: Builder | undefined): string | undefined {
  if (builder?.driver === 'docker' && !builder.isMultiPlatform)
    return findUnsupportedByClassicStore(spec) ?? findUnsupportedArgument(spec);
  return findUnsupportedArgument(spec);
}

/** For an engine with the classic image store, which pushes from there. */
function findUnsupportedByClassicStore({ attestations, compression }: ContainerFileSpec): string | undefined {
  const help =
    'create a builder with `docker buildx create --use`, or turn on the containerd image store of the engine';
  if (attestations.sbom || attestations.provenance !== 'none')
    return `this Docker engine makes no attestations: ${help}`;
  if (compression && !isPlainGzip(compression)) return `this Docker engine packs layers with gzip alone: ${help}`;
  return undefined;
}

function isPlainGzip({ mode, level, force = false }: Compression): boolean {
  return mode === 'gzip' && level === undefined && !force;
}

interface PinnedFile {
  readonly text: string;
  /** The bases whose names are not literally in the file, since they are made of arguments, or that are stages, too. */
  readonly missed: readonly string[];
}

/** Pins bases in the Containerfile itself, for a BuildKit without source policies. Reports each base that is not pinned. */
async function writePinnedFile({ spec, bases }: BuildInput, path: string, report: Report): Promise<void> {
  const { text, missed } = pinFile(spec.containerFile, bases);
  await writeFile(path, text, { mode: 0o600 });
  for (const name of missed) {
    report({ kind: 'note', text: `the BuildKit of this engine is too old to pin ${name}: it is what its tag is now` });
  }
}

/** Replaces the names of bases by their pins, after FROM and --from=. */
export function pinFile(containerFile: string, bases: ReadonlyMap<string, PinnedBase>): PinnedFile {
  const missed: string[] = [];
  let text = containerFile;
  for (const [name, base] of bases) {
    const pinned = hasStage(containerFile, name) ? text : replaceName(text, name, base.name);
    if (pinned === text) missed.push(name);
    text = pinned;
  }
  return { text, missed };
}

function replaceName(text: string, name: string, pinned: string): string {
  const use = new RegExp(`(^[ \\t]*FROM[ \\t]+(?:--\\S+[ \\t]+)*|--from=)${escapePattern(name)}(?=\\s|$)`, 'gim');
  return text.replace(use, (_, before: string) => `${before}${pinned}`);
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
