// What the base images of a build are now, which decides its result, and so its id; and whether they are for its platforms.
import pLimit from 'p-limit';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { describeAbsence, findPlatformImage } from './base-platform.ts';
import type { BaseUse } from './containerfile/bases.ts';
import type { BaseImages } from './images.ts';
import { InvalidBuild } from './invalid-build.ts';

const CONCURRENCY = 4;

export type LookUp = Pick<BaseImages, 'resolve' | 'open'>;

/**
 * The digest of each base by its name. One whose registry fails now is left out: a builder may have it, or find it later. Throws
 * InvalidBuild for one that does not exist, that we may not have, or that is not there for a platform.
 */
export async function lookUpBases(
  bases: readonly BaseUse[],
  images: LookUp,
  signal?: AbortSignal,
): Promise<Readonly<Record<string, Digest>>> {
  const limit = pLimit(CONCURRENCY);
  const found = await limit.map(bases, async base => {
    signal?.throwIfAborted();
    const digest = await findDigest(base, images);
    if (digest !== undefined) await checkPlatforms(base, digest, images);
    return [base.reference, digest] as const;
  });
  return Object.fromEntries(found.flatMap(([name, digest]) => (digest === undefined ? [] : [[name, digest]])));
}

async function findDigest({ reference, line }: BaseUse, images: Pick<BaseImages, 'resolve'>) {
  try {
    return await images.resolve(reference);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    if (isPassing(error)) return undefined;
    const place = `containerFile: line ${line}: the image ${JSON.stringify(reference.slice(0, 300))}`;
    throw new InvalidBuild(`${place} cannot be had: ${error.message}`, { cause: error });
  }
}

/** A base that cannot be read now, or is nothing that we understand, is left to the builder. */
async function checkPlatforms({ reference, line, platforms }: BaseUse, digest: Digest, images: LookUp): Promise<void> {
  if (platforms.length === 0) return;
  try {
    const image = await images.open(reference, digest);
    for (const platform of platforms) {
      const found = await findPlatformImage(image, platform);
      if (!found.manifest) {
        throw new InvalidBuild(`containerFile: line ${line}: ${describeAbsence(reference, platform, found)}`);
      }
    }
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
  }
}

function isPassing({ status }: RegistryError): boolean {
  return status === 408 || status === 429 || status >= 500;
}
