// The commands of a build: pure functions of the build input. They hold no secret: every user can read arguments.
import { formatPlatform, type Platform } from '../../../oci/platform.ts';
import type { BuildInput } from '../../backend.ts';
import { hasStage } from '../../containerfile/stages.ts';
import { findNeeds } from '../../needs.ts';
import type { Compression, ContainerFileSpec } from '../../spec.ts';
import { csvFields, findUnsupportedArgument } from '../buildkit/command.ts';
import { isRemote } from '../embedded/copy-step.ts';
import { isOffline, type RunMode, type RunSupport } from './isolation.ts';
import type { Workspace } from './workspace.ts';

/** Where buildah keeps images and containers; absent: as in storage.conf. */
export interface StorageOptions {
  readonly root?: string | undefined;
  readonly runRoot?: string | undefined;
  readonly storageDriver?: string | undefined;
}

export function storageArguments({ root, runRoot, storageDriver }: StorageOptions): readonly string[] {
  return [
    ...(root === undefined ? [] : ['--root', root]),
    ...(runRoot === undefined ? [] : ['--runroot', runRoot]),
    ...(storageDriver === undefined ? [] : ['--storage-driver', storageDriver]),
  ];
}

/**
 * Builds one platform and, if there are several, adds it to the manifest list. One command for all would list them in the order in which
 * they finish, continue when one fails, and not say which one.
 */
export function buildArguments(
  input: BuildInput,
  workspace: Workspace,
  {
    platform,
    mode,
    pulled,
  }: {
    readonly platform: Platform;
    readonly mode: RunMode;
    /** The ids of images that were pulled in advance, by their names in the Containerfile; absent: buildah pulls them. */
    readonly pulled?: ReadonlyMap<string, string> | undefined;
  },
): readonly string[] {
  const { spec, platforms, ssh } = input;
  // With pulled images buildah has no network, so no cache.
  const cache = pulled ? undefined : input.cache;
  return [
    ...registries(workspace),
    ...['build', '--platform', formatPlatform(platform)],
    ...(platforms.length > 1 ? ['--manifest', workspace.list] : []),
    ...['--file', workspace.file, '--iidfile', workspace.imageId],
    ...specArguments(spec),
    ...[...workspace.secrets].flatMap(([id, src]) => ['--secret', csvFields({ id, src })]),
    ...[...ssh].flatMap(([id, path]) => ['--ssh', `${id}=${path}`]),
    ...(pulled
      ? [...pulled].flatMap(([name, id]) => ['--build-context', `${name}=container-image://${id}`])
      : pinBases(input).flatMap(pin => ['--build-context', pin])),
    ...(pulled ? ['--pull-never'] : []),
    ...(cache ? ['--cache-from', withoutTag(cache.name), '--cache-to', withoutTag(cache.name)] : []),
    // No --timestamp: it would change the times of all files that a step makes, and whatever depends on them.
    ...runModeArguments(mode, spec.network),
    ...['--format', 'oci', '--layers', '--force-rm'],
    ...(isFromScratch(spec) ? ['--no-cache'] : []),
    // A RUN gets a proxy only from build arguments, as with the other builders: ours may hold a password.
    ...['--http-proxy=false', '--authfile', workspace.authFile, workspace.context],
  ];
}

/** The isolation of a RUN, whatever containers.conf says. With chroot a RUN has buildah's own namespaces. */
export function runModeArguments(mode: RunMode, wanted: ContainerFileSpec['network'] = 'default'): readonly string[] {
  const { isolation, runtime, network } = mode;
  if (isolation === 'chroot') return ['--isolation', isolation];
  const given = wanted === 'default' || isOffline(mode) ? network : wanted;
  return [
    ...['--isolation', isolation, ...(runtime === undefined ? [] : ['--runtime', runtime])],
    ...['--pid', 'private', '--network', given],
  ];
}

/** Pulls an image, and prints its id. */
export function pullArguments(workspace: Workspace, name: string, platform: Platform): readonly string[] {
  const options = ['--quiet', '--platform', formatPlatform(platform), '--authfile', workspace.authFile];
  return [...registries(workspace), 'pull', ...options, `docker://${name}`];
}

/** Pushes the one image. */
export function pushArguments(input: BuildInput, workspace: Workspace, imageId: string): readonly string[] {
  const options = ['--authfile', workspace.authFile, '--format', 'oci', '--digestfile', workspace.digest];
  return [...registries(workspace), 'push', ...options, imageId, `docker://${input.target.name}`];
}

/** Pushes the manifest list and its images. With a digest file buildah exits with 0 even if it fails, without an error. */
export function pushListArguments(
  input: BuildInput,
  workspace: Workspace,
  { hasDigestFile }: { readonly hasDigestFile: boolean },
): readonly string[] {
  const options = ['--all', '--authfile', workspace.authFile, '--format', 'oci'];
  const digest = hasDigestFile ? ['--digestfile', workspace.digest] : [];
  const names = [workspace.list, `docker://${input.target.name}`];
  return [...registries(workspace), 'manifest', 'push', ...options, ...digest, ...names];
}

function registries({ registries }: Workspace): readonly string[] {
  return ['--registries-conf', registries];
}

function specArguments({ args, labels, stage }: ContainerFileSpec): readonly string[] {
  return [
    ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
    ...Object.entries(labels).flatMap(([name, value]) => ['--label', `${name}=${value}`]),
    ...(stage === undefined ? [] : ['--target', stage]),
  ];
}

/** The cache is a repository with one tag for each step. */
function withoutTag(name: string): string {
  const colon = name.lastIndexOf(':');
  return colon > name.lastIndexOf('/') ? name.slice(0, colon) : name;
}

/** To the cache, steps on scratch are equal for all platforms: it would return the image of another platform. */
function isFromScratch({ containerFile }: ContainerFileSpec): boolean {
  return /^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(?:scratch|\S*\$)/im.test(containerFile);
}

/**
 * Values of `--build-context` that pin each base by its name in the Containerfile. A name that is also a stage gets none, since it would
 * replace the stage.
 */
export function pinBases({ bases, spec }: Pick<BuildInput, 'bases' | 'spec'>): readonly string[] {
  return [...bases]
    .filter(([name]) => !hasStage(spec.containerFile, name))
    .map(([name, base]) => `${name}=docker-image://${base.name}`);
}

/** Why buildah cannot build this spec; undefined if it can, or nothing is known yet. */
export function findUnsupportedReason(spec: ContainerFileSpec, support: RunSupport | undefined): string | undefined {
  const { sbom, provenance } = spec.attestations;
  if (sbom || provenance !== 'none') return 'attestations need a BuildKit: buildah makes none';
  if (spec.compression && !isPlainGzip(spec.compression)) {
    return 'buildah packs layers with gzip alone, at its own level: another compression needs a BuildKit';
  }
  return findUnsupportedStep(spec, support) ?? findUnsupportedArgument(spec);
}

function findUnsupportedStep(spec: ContainerFileSpec, support: RunSupport | undefined): string | undefined {
  const { mode, fault } = support ?? {};
  if (mode && spec.network === 'none' && mode.isolation === 'chroot' && !isOffline(mode)) {
    return 'a RUN without a network needs the isolation oci or rootless: with chroot it has that of the machine here';
  }
  if (mode && spec.network === 'host' && isOffline(mode)) {
    return 'a RUN with the network of the machine needs `hostNetwork: true` of this builder';
  }
  for (const step of findNeeds(spec)?.steps ?? []) {
    if (step.kind === 'run' && fault !== undefined) return `line ${step.line}: no RUN works with it: ${fault}`;
    const demand = step.kind === 'run' ? step.entitlements.find(each => !isGranted(each, spec)) : undefined;
    // Newer versions grant these without asking.
    if (demand !== undefined) return `line ${step.line}: RUN ${demand} is not allowed`;
    if (step.kind === 'add' && mode && isOffline(mode) && step.sources.some(isRemote)) {
      return `line ${step.line}: without a network of its own for steps it fetches nothing remote`;
    }
  }
  return undefined;
}

function isGranted(demand: string, { network }: ContainerFileSpec): boolean {
  return demand === '--network=host' && network === 'host';
}

function isPlainGzip({ mode, level, force = false }: Compression): boolean {
  return mode === 'gzip' && level === undefined && !force;
}
