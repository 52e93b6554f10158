// Builds without a builder: a Containerfile without RUN only rewrites images, for any platform, in this process.
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { RegistryError } from '../../../oci/errors.ts';
import { type Platform, parsePlatform } from '../../../oci/platform.ts';
import { parseTag } from '../../../oci/reference.ts';
import type { Backend, BuildInput, BuildOptions, BuildResult } from '../../backend.ts';
import { InvalidContainerFile } from '../../containerfile/container-file.ts';
import { parseContainerFile } from '../../containerfile/parse.ts';
import { type IgnoreRules, readFileOf, readIgnoreRules } from '../../context/directory.ts';
import { createSpool, type Spool } from '../../context/spool.ts';
import { type ContextLimits, InvalidContext } from '../../context/tree.ts';
import type { Modes } from '../../context/unpack-context.ts';
import { BuildFailure, kindOfRegistryError } from '../../execution.ts';
import type { BaseImages, OpenDestination } from '../../images.ts';
import { findNeeds, type Needs } from '../../needs.ts';
import type { ContainerFileSpec } from '../../spec.ts';
import { createWork, type Work, WorkLimitExceeded } from '../../work.ts';
import { DEFAULT_EMBEDDED_LIMITS } from './archive.ts';
import { stoppableImages } from './base.ts';
import { buildPlatform, type PlatformBuild } from './build-platform.ts';
import { isRemote } from './copy-step.ts';
import { type DirectoryNode, emptyDirectory, type Node } from './file-system.ts';
import { type BuiltImage, createdAt, pushImages } from './push.ts';
import { once, type Snapshot } from './stage.ts';
import { InvalidStep } from './step.ts';

export interface EmbeddedDeps {
  readonly name?: string;
  readonly images: BaseImages;
  readonly openDestination: OpenDestination;
  readonly limits?: ContextLimits;
  /** The value of BUILDPLATFORM; default: this machine's. */
  readonly buildPlatform?: Platform;
}

/** For one build: minutes of work for a malicious file, and far more than real ones need. */
const COPYING = { maxSteps: 2 ** 33, what: 'what it copies: use fewer wildcards, or copy fewer files' } as const;

/** The platforms that bases are commonly built for: nothing is run, so all cost the same. */
const PLATFORMS: readonly Platform[] = [
  ...[
    'amd64',
    '386',
    'arm64',
    'arm/v7',
    'arm/v6',
    'arm/v5',
    'ppc64le',
    's390x',
    'riscv64',
    'loong64',
    'mips64le',
    'mips64',
  ],
].map(platform => parsePlatform(`linux/${platform}`));

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le', arm: 'arm/v7' };

export function createEmbeddedBackend(deps: EmbeddedDeps): Backend {
  return {
    name: deps.name ?? 'embedded',
    kind: 'embedded',
    isMultiPlatform: true,
    listPlatforms: async () => PLATFORMS,
    findUnsupportedReason,
    build: (input, options) => build(deps, input, options),
    close: async () => {},
  };
}

const BUILDERS = 'install BuildKit, docker with buildx, or buildah';

const MAX_GZIP_LEVEL = 9;

/** As far as the spec shows; undefined where it can be built. For an invalid file the build itself reports the error. */
export function findUnsupportedReason(spec: ContainerFileSpec): string | undefined {
  const { attestations, compression } = spec;
  if (attestations.sbom)
    return `an SBOM needs a builder that looks into the image: install BuildKit, or docker with buildx`;
  if (attestations.provenance !== 'none') return `only BuildKit attests provenance: install it, or docker with buildx`;
  if (compression?.mode === 'estargz')
    return 'only BuildKit packs layers as estargz: install it, or docker with buildx';
  if (compression?.force)
    return 'only BuildKit compresses the layers of base images again: install it, or docker with buildx';
  if (compression?.mode !== 'zstd' && (compression?.level ?? 0) > MAX_GZIP_LEVEL)
    return `gzip has levels up to ${MAX_GZIP_LEVEL}`;
  const needs = findNeeds(spec);
  return needs && findUnsupportedStep(needs);
}

function findUnsupportedStep({ frontend, steps }: Needs): string | undefined {
  if (frontend) return `the frontend ${JSON.stringify(frontend)} runs in a builder: ${BUILDERS}`;
  for (const { kind, line, ...rest } of steps) {
    if (kind === 'run') return `line ${line}: RUN needs a builder: ${BUILDERS}`;
    const isFetched = 'sources' in rest && rest.sources.some(isRemote);
    if (isFetched) return `line ${line}: remote sources need a builder: ${BUILDERS}`;
  }
  return undefined;
}

async function build(deps: EmbeddedDeps, input: BuildInput, options: BuildOptions): Promise<BuildResult> {
  const { signal } = options;
  signal.throwIfAborted();
  const spool = await createSpool(input.directory);
  try {
    const images = await buildAll(await prepare(deps, input, { ...options, spool }), input);
    const colon = input.target.image.lastIndexOf(':');
    const destination = deps.openDestination(input.target.image.slice(0, colon));
    const tag = parseTag(input.target.image.slice(colon + 1));
    return { digest: await pushImages(destination, images, { tag, created: createdAt(input.spec.args), signal }) };
  } catch (error) {
    signal.throwIfAborted();
    throw describeFault(error);
  } finally {
    await spool.close();
  }
}

async function prepare(
  deps: EmbeddedDeps,
  { spec, directory, contextModes }: BuildInput,
  { signal, report, spool }: BuildOptions & { readonly spool: Spool },
): Promise<PlatformBuild> {
  const { limits = DEFAULT_EMBEDDED_LIMITS } = deps;
  const images = stoppableImages(deps.images, signal);
  const work = createWork({ ...COPYING, signal });
  return {
    file: parseContainerFile(await readFile(join(directory, 'Containerfile'), 'utf8')),
    ...{ args: spec.args, stage: spec.stage, bases: spec.bases, images, report },
    buildPlatform: deps.buildPlatform ?? parsePlatform(`linux/${ARCHITECTURES[arch()] ?? arch()}`),
    context: once(() => readContext(join(directory, 'context'), { modes: contextModes, work })),
    reading: { limits, spool, signal, work },
    writing: { directory, compression: spec.compression, signal },
  };
}

async function buildAll(work: PlatformBuild, { platforms, spec }: BuildInput): Promise<readonly BuiltImage[]> {
  const images: BuiltImage[] = [];
  for (const platform of platforms) {
    images.push({ platform, snapshot: withLabels(await buildPlatform(platform, work), spec.labels) });
  }
  return images;
}

function withLabels(snapshot: Snapshot, labels: Readonly<Record<string, string>>): Snapshot {
  const { state } = snapshot;
  return { ...snapshot, state: { ...state, run: { ...state.run, Labels: { ...state.run.Labels, ...labels } } } };
}

function describeFault(cause: unknown): unknown {
  if (cause instanceof RegistryError) {
    return new BuildFailure({ kind: kindOfRegistryError(cause), reason: cause.message }, { cause });
  }
  const isFault =
    cause instanceof InvalidContainerFile || cause instanceof InvalidStep || cause instanceof WorkLimitExceeded;
  if (!isFault) return cause;
  return new BuildFailure({ kind: 'build', reason: cause.message }, { cause });
}

// The build context on disk as a file system: owned by root, without times, and without what .dockerignore excludes.

const MODE = 0o7777;

/** Nothing is read through a symlink. Throws InvalidStep for a .dockerignore that cannot be read, or what `work` throws. */
async function readContext(
  directory: string,
  {
    modes = new Map(),
    work,
  }: {
    /** Of entries, by name, that have another one on disk. */
    readonly modes?: Modes | undefined;
    readonly work: Work;
  },
): Promise<DirectoryNode> {
  try {
    const rules = await readIgnoreRules(directory, undefined, work);
    return { ...emptyDirectory, children: await readChildren(directory, '', { rules, modes }) };
  } catch (error) {
    if (!(error instanceof InvalidContext)) throw error;
    throw new InvalidStep(error.message, { cause: error });
  }
}

interface Reading {
  readonly rules: IgnoreRules;
  readonly modes: Modes;
}

async function readChildren(directory: string, below: string, reading: Reading): Promise<ReadonlyMap<string, Node>> {
  const children = new Map<string, Node>();
  const names = await readdir(directory);
  for (const name of names.sort()) {
    const node = await readNode(join(directory, name), below === '' ? name : `${below}/${name}`, reading);
    if (node) children.set(name, node);
  }
  return children;
}

async function readNode(path: string, name: string, reading: Reading): Promise<Node | undefined> {
  const { rules, modes } = reading;
  const stats = await lstat(path);
  const isIgnored = await rules.ignores(name);
  if (isIgnored && !(stats.isDirectory() && rules.hasExceptions)) return undefined;
  const attributes = { mode: modes.get(name) ?? stats.mode & MODE, uid: 0, gid: 0, mtime: 0, xattrs: {} };
  if (stats.isDirectory()) {
    const children = await readChildren(path, name, reading);
    return isIgnored && children.size === 0 ? undefined : { ...attributes, kind: 'directory', children };
  }
  if (stats.isSymbolicLink()) return { ...attributes, kind: 'symlink', mode: 0o777, target: await readlink(path) };
  return stats.isFile()
    ? { ...attributes, kind: 'file', size: stats.size, open: () => readFileOf(path, stats, changed) }
    : undefined;
}

function changed(): Error {
  return new Error('the build context changed while it was read');
}
