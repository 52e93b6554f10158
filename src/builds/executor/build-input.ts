// What one backend needs for its part of a build: everything looked up, and the files laid out.
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
  /** How a builder has to write an image that Veneer knows as `local/builds:tag`; `own` is how it reaches Veneer, if it has a way of its own. */
  readonly targetOf: (image: string, own: OwnRegistry | undefined) => Promise<PushTarget>;
  /** How a builder has to write a base that was resolved to the digest. */
  readonly pinBase: (name: string, digest: Digest, own: OwnRegistry | undefined) => Promise<PinnedBase>;
  /** The value of a configured secret. */
  readonly findSecret: (id: string) => Promise<Uint8Array | undefined>;
  /** The path of a configured agent's socket or key. */
  readonly findSsh: (id: string) => Promise<string | undefined>;
  /** By host, for all that the build pulls from, and for the repository of the image and the cache. */
  readonly findCredentials: (spec: ContainerFileSpec, image: string) => Promise<ReadonlyMap<string, BuildCredentials>>;
  /** The build is over: what was issued for it alone ends. Must not throw. */
  readonly endCredentials: (credentials: ReadonlyMap<string, BuildCredentials>) => Promise<void>;
  /** Writes a stored context into an empty folder. Gives the modes of what could not be read there with its own. */
  readonly unpackContext: (digest: Digest, directory: string) => Promise<Modes>;
}

/** What is secret, or private, and the same for all parts of a build. */
export type BuildSecrets = Pick<BuildInput, 'secrets' | 'ssh' | 'credentials'>;

/**
 * Calls `work` with the keys, which are of no more use after it, unless `goesOn` says that somebody still needs them: then they end by
 * themselves. Throws BuildFailure for an id that is not configured.
 */
export async function withSecrets<T>(
  deps: BuildInputDeps,
  { spec, image, goesOn }: Pick<Part, 'spec' | 'image'> & { readonly goesOn: () => Promise<boolean> },
  work: (keys: BuildSecrets) => Promise<T>,
): Promise<T> {
  const keys = await findKeys(deps, spec, image);
  try {
    return await work(keys);
  } finally {
    if (!(await goesOn())) await deps.endCredentials(keys.credentials);
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
  /** Where it is pushed. */
  readonly image: string;
  /** Does not exist yet. */
  readonly directory: string;
  readonly keys: BuildSecrets;
  /** Of its builder. */
  readonly own?: OwnRegistry | undefined;
}

/** Lays out the part's folder. */
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
 * The name of the cache; undefined where none is kept. Builds share it that differ in their context, arguments and bases alone: those are
 * what a cache is for. Another file or other platforms have another one, for each export replaces the one before.
 */
export function cacheImage(spec: ContainerFileSpec, platforms: readonly Platform[]): string | undefined {
  if (spec.cacheRepository === undefined) return undefined;
  const key = JSON.stringify([spec.containerFile, spec.stage ?? null, platforms.map(formatPlatform).toSorted()]);
  return `${spec.cacheRepository}:cache-${createHash('sha256').update(key).digest('hex').slice(0, 16)}`;
}
