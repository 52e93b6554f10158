// A build that fans out over several backends: each part is pushed under a temporary tag, then all are joined into one index.
import { join } from 'node:path';
import { digestOf } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { isSamePlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import type { Backend } from '../backend.ts';
import type { BaseImages, PushedDocument } from '../images.ts';
import type { ContainerFileSpec } from '../spec.ts';
import type { BuildInputDeps } from './build-input.ts';
import { type Building, buildPart, type Part } from './part.ts';
import { type Built, checkTag, type Result, readResult, tagOf } from './result.ts';

export interface FanOutDeps extends BuildInputDeps {
  readonly images: Pick<BaseImages, 'open'>;
  /** Removes a temporary tag, where tags can be removed. Throws RegistryError, which fails no build. */
  readonly removeTag: (repository: string, tag: string) => Promise<void>;
}

/** Builds on all backends concurrently. Throws the first failure, once all have stopped. */
export async function buildParts(
  deps: FanOutDeps,
  building: Building,
  assigned: ReadonlyMap<Backend, readonly Platform[]>,
): Promise<Built> {
  for (const { name } of assigned.keys()) building.options.onBackend(name);
  const parts = splitParts(building, assigned);
  const [only] = parts;
  if (only && parts.length === 1) {
    return buildPart(deps, building, { ...only, image: building.image }, building.options.signal);
  }
  try {
    return await pushJoined(deps, building, await buildAll(deps, building, parts));
  } finally {
    for (const { image } of parts) await removeTag(deps, building, image);
  }
}

/** The tags are `<build id>.part-1-of-3`: they explain themselves where they cannot be removed. */
function splitParts({ directory, spec, options }: Building, assigned: ReadonlyMap<Backend, readonly Platform[]>) {
  const parts = [...assigned].flatMap(([backend, platforms]) =>
    (backend.isMultiPlatform ? [platforms] : platforms.map(platform => [platform])).map(some => ({
      backend,
      platforms: some,
    })),
  );
  return parts.map(
    (part, i): Part => ({
      ...part,
      image: `${spec.target.repository}:${options.id}.part-${i + 1}-of-${parts.length}`,
      directory: join(directory, `${i + 1}`),
    }),
  );
}

/** Backends work concurrently; one that is not multi-platform gets its platforms one by one, unless it is parallel. */
async function buildAll(deps: FanOutDeps, building: Building, parts: readonly Part[]): Promise<readonly Built[]> {
  const groups = Map.groupBy(parts, part => (part.backend.isParallel ? part : part.backend));
  const work = [...groups.values()].map(group => async (signal: AbortSignal) => {
    const built: Built[] = [];
    for (const part of group) built.push(await buildPart(deps, building, part, signal));
    return built;
  });
  return (await failFast(work, building.options.signal)).flat();
}

async function pushJoined(deps: FanOutDeps, building: Building, built: readonly Built[]): Promise<Built> {
  const { spec, image, destination } = building;
  const results = await Promise.all(built.map(part => readResult(part, deps.images)));
  const index = joinParts(spec, results);
  await destination.putManifest({ ...index, tags: [tagOf(image)] });
  const joined = { image, digest: index.digest };
  await checkTag(joined, destination);
  return joined;
}

/** A leftover tag does no harm, and one that was never pushed needs no removal. */
export async function removeTag(
  { removeTag }: FanOutDeps,
  { spec, options }: Pick<Building, 'spec' | 'options'>,
  image: string,
): Promise<void> {
  try {
    await removeTag(spec.target.repository, tagOf(image));
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404) return;
    options.report({ kind: 'note', text: `the tag ${image} could not be removed` });
  }
}

/** Runs all work concurrently and stops the rest when one fails. Results in the order of the work; throws the first failure, once all have ended. */
async function failFast<T>(
  work: readonly ((signal: AbortSignal) => Promise<T>)[],
  signal: AbortSignal,
): Promise<readonly T[]> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  const run = async (part: (signal: AbortSignal) => Promise<T>) => {
    try {
      return await part(either);
    } catch (error) {
      failures.push(error);
      stop.abort(new DOMException('another part of the build failed', 'AbortError'));
      throw error;
    }
  };
  const settled = await Promise.allSettled(work.map(run));
  if (failures.length > 0) throw failures[0];
  return settled.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
}

/** An index of the parts' images, in the order of the spec's platforms, followed by their attestations. */
function joinParts({ platforms }: ContainerFileSpec, parts: readonly Result[]): Omit<PushedDocument, 'tags'> {
  const images = parts.flatMap(part => part.images);
  const ordered = images.toSorted((a, b) => rankOf(a.platform, platforms) - rankOf(b.platform, platforms));
  const index = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests: [
      ...ordered.map(({ descriptor, platform }) => ({ ...descriptor, platform })),
      ...parts.flatMap(part => part.attestations.map(({ descriptor }) => descriptor)),
    ],
  };
  const raw = new TextEncoder().encode(JSON.stringify(index));
  return { raw, mediaType: mediaTypes.ociIndex, digest: digestOf(raw) };
}

function rankOf(platform: Platform, input: readonly string[]): number {
  return input.findIndex(text => isSamePlatform(parsePlatform(text), platform));
}
