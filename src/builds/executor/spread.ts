// A build spread over backends: each part is pushed under a tag that says what it is, and all are joined into one index.
import { join } from 'node:path';
import { RegistryError } from '../../oci/errors.ts';
import type { Platform } from '../../oci/platform.ts';
import type { Backend } from '../backend.ts';
import type { BaseImages } from '../images.ts';
import { checkTag, tagOf } from './check.ts';
import { failFast } from './fail-fast.ts';
import { joinParts } from './join.ts';
import type { OrdersDeps } from './order.ts';
import { type Building, buildPart, type Part } from './part.ts';
import { type Built, readResult } from './result.ts';

export interface SpreadDeps extends OrdersDeps {
  readonly images: Pick<BaseImages, 'open'>;
  /** Removes a tag that was needed on the way alone, where tags can be removed. Throws RegistryError, which fails no build. */
  readonly removeTag: (repository: string, tag: string) => Promise<void>;
}

/** Builds on all backends at once. Throws the first failure, once all have stopped. */
export async function buildParts(
  deps: SpreadDeps,
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

/** `<build id>.part-1-of-3`: the tags of parts, where they cannot be removed again. */
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

/** The backends work side by side; one that takes a platform at a time gets them one by one, unless it says that it takes them at once. */
async function buildAll(deps: SpreadDeps, building: Building, parts: readonly Part[]): Promise<readonly Built[]> {
  const groups = Map.groupBy(parts, part => (part.backend.isParallel ? part : part.backend));
  const work = [...groups.values()].map(group => async (signal: AbortSignal) => {
    const built: Built[] = [];
    for (const part of group) built.push(await buildPart(deps, building, part, signal));
    return built;
  });
  return (await failFast(work, building.options.signal)).flat();
}

async function pushJoined(deps: SpreadDeps, building: Building, built: readonly Built[]): Promise<Built> {
  const { spec, image, destination } = building;
  const results = await Promise.all(built.map(part => readResult(part, deps.images)));
  const index = joinParts(spec, results);
  await destination.putManifest({ ...index, tags: [tagOf(image)] });
  const joined = { image, digest: index.digest };
  await checkTag(joined, destination);
  return joined;
}

/** A tag too many does no harm, and one that was never pushed need not go. */
export async function removeTag(
  { removeTag }: SpreadDeps,
  { spec, options }: Pick<Building, 'spec' | 'options'>,
  image: string,
): Promise<void> {
  try {
    await removeTag(spec.target.repository, tagOf(image));
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404) return;
    options.tell({ kind: 'note', text: `the tag ${image} could not be removed` });
  }
}
