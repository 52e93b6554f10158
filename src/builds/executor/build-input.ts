// The input of one backend for its part of a build: everything resolved, and the files laid out.
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../oci/digest.ts';
import { formatPlatform, type Platform } from '../../oci/platform.ts';
import type { BuildCredentials, BuildInput, OwnRegistry, PinnedBase, PushTarget } from '../backend.ts';
import type { Modes } from '../context/unpack-context.ts';
import { BuildFailure } from '../execution.ts';
import type { ContainerFileSpec } from '../spec.ts';

export interface BuildInputDeps {
  /** How a builder writes an image that Veneer calls `local/builds:tag`; `own` is how the builder reaches Veneer, if not as others do. */
  readonly targetOf: (image: string, own: OwnRegistry | undefined) => Promise<PushTarget>;
  /** How a builder writes a base image that is pinned to the digest. */
  readonly pinBase: (name: string, digest: Digest, own: OwnRegistry | undefined) => Promise<PinnedBase>;
  /** The value of a configured secret. */
  readonly findSecret: (id: string) => Promise<Uint8Array | undefined>;
  /** The path of a configured agent's socket or key. */
  readonly findSsh: (id: string) => Promise<string | undefined>;
  /** By host, for all registries that the build pulls from or pushes to. */
  readonly findCredentials: (spec: ContainerFileSpec, image: string) => Promise<ReadonlyMap<string, BuildCredentials>>;
  /** Revokes credentials that were issued for this build alone. Must not throw. */
  readonly endCredentials: (credentials: ReadonlyMap<string, BuildCredentials>) => Promise<void>;
  /** Unpacks a stored context into an empty folder. Returns the true modes of entries that are written with another one, so that they can be read. */
  readonly unpackContext: (digest: Digest, directory: string) => Promise<Modes>;
}

/** What is secret, and common to all parts of a build. */
export type BuildSecrets = Pick<BuildInput, 'secrets' | 'ssh' | 'credentials'>;

/**
 * Calls `work` with the secrets, and revokes the credentials afterwards, unless `isInUse` says that a builder continues with them: then they
 * expire by themselves. Throws BuildFailure for an id that is not configured.
 */
export async function withSecrets<T>(
  deps: BuildInputDeps,
  { spec, image, isInUse }: Pick<Part, 'spec' | 'image'> & { readonly isInUse: () => Promise<boolean> },
  work: (keys: BuildSecrets) => Promise<T>,
): Promise<T> {
  const keys = await findKeys(deps, spec, image);
  try {
    return await work(keys);
  } finally {
    if (!(await isInUse())) await deps.endCredentials(keys.credentials);
  }
}

async function findKeys(deps: BuildInputDeps, spec: ContainerFileSpec, image: string): Promise<BuildSecrets> {
  const [secrets, ssh, credentials] = await Promise.all([
    findAll('secret', spec.secrets, deps.findSecret),
    findAll('ssh', spec.ssh, deps.findSsh),
    deps.findCredentials(spec, image),
  ]);
  return { secrets, ssh, credentials };
}

async function findAll<T>(
  kind: 'secret' | 'ssh',
  ids: readonly string[],
  find: (id: string) => Promise<T | undefined>,
): Promise<ReadonlyMap<string, T>> {
  const entries = await Promise.all(ids.map(async id => [id, await find(id)] as const));
  return new Map(
    entries.map(([id, value]) => {
      if (value !== undefined) return [id, value];
      throw new BuildFailure({ kind: 'build', reason: `the ${kind} "${id}" is not configured here` });
    }),
  );
}

interface Part {
  readonly id: string;
  readonly spec: ContainerFileSpec;
  readonly platforms: readonly Platform[];
  /** Where the part is pushed. */
  readonly image: string;
  /** Does not exist yet. */
  readonly directory: string;
  readonly keys: BuildSecrets;
  /** That of its builder. */
  readonly own?: OwnRegistry | undefined;
}

/** Creates the part's folder with its files. */
export async function prepareInput(deps: BuildInputDeps, part: Part): Promise<BuildInput> {
  const { id, spec, platforms, image, directory, keys, own } = part;
  const context = join(directory, 'context');
  await mkdir(context, { recursive: true, mode: 0o700 });
  await writeFile(join(directory, 'Containerfile'), spec.containerFile);
  const contextModes = spec.context && (await deps.unpackContext(spec.context.digest, context));
  const cache = cacheImage(spec, platforms);
  return {
    ...{ id, spec, platforms, directory, contextModes, ...keys },
    target: await deps.targetOf(image, own),
    cache: cache === undefined ? undefined : await deps.targetOf(cache, own),
    bases: await pinBases(spec, deps, own),
  };
}

async function pinBases(
  { bases }: ContainerFileSpec,
  { pinBase }: BuildInputDeps,
  own: OwnRegistry | undefined,
): Promise<BuildInput['bases']> {
  const pinned = Object.entries(bases).map(async ([name, digest]) => [name, await pinBase(name, digest, own)] as const);
  return new Map(await Promise.all(pinned));
}

/**
 * The image of the layer cache; undefined without a cache. Builds share it if they differ only in context, arguments and bases: that is what
 * a cache is for. Another Containerfile, or other platforms, have one of their own, since each export replaces the previous one.
 */
export function cacheImage(spec: ContainerFileSpec, platforms: readonly Platform[]): string | undefined {
  if (spec.cacheRepository === undefined) return undefined;
  const key = JSON.stringify([spec.containerFile, spec.stage ?? null, platforms.map(formatPlatform).toSorted()]);
  return `${spec.cacheRepository}:cache-${createHash('sha256').update(key).digest('hex').slice(0, 16)}`;
}
