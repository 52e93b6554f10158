// The command that builds and pushes: a pure function of the build input. It holds no secret: every user can read arguments.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatPlatform } from '../../../oci/platform.ts';
import type { BuildInput, PinnedBase } from '../../backend.ts';
import { hasStage } from '../../containerfile/stages.ts';
import type { Report } from '../../progress.ts';
import type { Compression, ContainerFileSpec } from '../../spec.ts';
import { cacheFields, csvFields, findUnsupportedArgument, outputFields } from '../buildkit/command.ts';
import { FILE_NAME, type Workspace } from '../buildkit/workspace.ts';
import type { Builder } from './builder.ts';

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
export async function writePinnedFile({ spec, bases }: BuildInput, path: string, report: Report): Promise<void> {
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
