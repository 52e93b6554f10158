// What the base images of a build are now: they decide its result, and so its id.
import pLimit from 'p-limit';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { BaseUse } from './containerfile/bases.ts';
import type { BaseImages } from './images.ts';
import { InvalidBuild } from './invalid-build.ts';

const CONCURRENCY = 4;

/**
 * The digest of each base by its name. One whose registry fails now is left out: a builder may have it, or find it later. Throws
 * InvalidBuild for one that does not exist, or that we may not have.
 */
export async function findBaseDigests(
  bases: readonly BaseUse[],
  images: Pick<BaseImages, 'resolve'>,
): Promise<Readonly<Record<string, Digest>>> {
  const limit = pLimit(CONCURRENCY);
  const found = await limit.map(bases, async base => [base.reference, await findDigest(base, images)] as const);
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

function isPassing({ status }: RegistryError): boolean {
  return status === 408 || status === 429 || status >= 500;
}
