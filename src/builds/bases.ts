// The base images of a build: their current digests, which are part of the build's id, and which image of each is for a platform. Builders
// do not reliably report a missing platform, but may silently use another one.
import pLimit from 'p-limit';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageManifest, Manifest } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import { formatPlatform, isSamePlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import type { BaseUse } from './containerfile/bases.ts';
import type { BaseImage, BaseImages } from './images.ts';
import { InvalidBuild } from './request.ts';

export type BaseLookup = Pick<BaseImages, 'resolve' | 'open'>;

/**
 * The digest of each base by its name. One whose registry fails is omitted: a builder may have it, or find it later. Throws
 * InvalidBuild for one that does not exist, is denied to us, or has no image for a platform.
 */
export async function lookUpBases(
  bases: readonly BaseUse[],
  images: BaseLookup,
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

const CONCURRENCY = 4;

async function findDigest({ reference, line }: BaseUse, images: Pick<BaseImages, 'resolve'>) {
  try {
    return await images.resolve(reference);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    if (isTransient(error)) return undefined;
    const place = `containerFile: line ${line}: the image ${JSON.stringify(reference.slice(0, 300))}`;
    throw new InvalidBuild(`${place} cannot be resolved: ${error.message}`, { cause: error });
  }
}

/** A base that currently cannot be read, or has an unknown format, is left to the builder. */
async function checkPlatforms(
  { reference, line, platforms }: BaseUse,
  digest: Digest,
  images: BaseLookup,
): Promise<void> {
  if (platforms.length === 0) return;
  try {
    const image = await images.open(reference, digest);
    for (const platform of platforms) {
      const found = await findPlatformImage(image, platform);
      if (!found.manifest) {
        throw new InvalidBuild(`containerFile: line ${line}: ${describeMissingPlatform(reference, platform, found)}`);
      }
    }
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
  }
}

function isTransient({ status }: RegistryError): boolean {
  return status === 408 || status === 429 || status >= 500;
}

interface PlatformImage {
  /** Undefined if the platform is missing. */
  readonly manifest: ImageManifest | undefined;
  /** The platforms of the image that were found until then. */
  readonly there: readonly string[];
}

/** Prefers an exact match, then an older ARM variant, whose code the platform runs. Throws what `image` throws. */
export async function findPlatformImage(image: BaseImage, platform: Platform): Promise<PlatformImage> {
  const candidates = await listCandidates(image);
  const there = [...new Set(candidates.map(each => formatPlatform(normalizePlatform(each.platform))))];
  for (const wanted of withOlderArmVariants([normalizePlatform(platform)])) {
    const found = candidates.find(each => isSamePlatform(each.platform, wanted));
    const manifest = found && (await found.read());
    if (manifest?.kind === 'image') return { manifest, there };
  }
  return { manifest: undefined, there };
}

const MAX_DEPTH = 4;
/** The maximum number of entries without a platform whose manifests are read. */
const MAX_READ = 64;

/** The message about a missing platform. */
export function describeMissingPlatform(reference: string, platform: Platform, { there }: PlatformImage): string {
  return `${reference} has no image for ${formatPlatform(platform)}, only for ${there.join(', ') || 'no platform at all'}`;
}

interface Candidate {
  readonly platform: Platform;
  readonly read: () => Promise<Manifest>;
}

async function listCandidates(image: BaseImage): Promise<readonly Candidate[]> {
  const candidates: Candidate[] = [];
  let left = MAX_READ;
  await visit(image.root, 1);
  return candidates;

  async function visit(manifest: Manifest, depth: number): Promise<void> {
    if (manifest.kind === 'image') {
      const platform = configPlatform(parseImageConfig(await image.readConfig(manifest.config)));
      add(platform, async () => manifest);
    }
    if (manifest.kind !== 'index' || depth > MAX_DEPTH) return;
    for (const entry of manifest.manifests) await visitEntry(entry, depth);
  }

  async function visitEntry(entry: Descriptor, depth: number): Promise<void> {
    const read = () => image.readManifest(entry);
    if (entry.platform && !isIndexType(entry.mediaType)) return add(entry.platform, read);
    if (left === 0) return;
    left -= 1;
    await visit(await read(), depth + 1);
  }

  /** Skips attestations. */
  function add(platform: Platform, read: Candidate['read']): void {
    if (platform.os !== 'unknown') candidates.push({ platform, read });
  }
}

const ARM_VARIANTS = ['v5', 'v6', 'v7'];

/**
 * Adds to normalised platforms the older variants of each ARM, without duplicates: a machine that runs a variant runs the older ones.
 * BuildKit lists v7 and v6, and builds v5 as well.
 */
export function withOlderArmVariants(platforms: readonly Platform[]): readonly Platform[] {
  const all = platforms.flatMap(platform => [platform, ...olderArms(platform)]);
  return [...new Map(all.map(platform => [formatPlatform(platform), platform])).values()];
}

function olderArms({ os, architecture, variant = '' }: Platform): readonly Platform[] {
  const newer = architecture === 'arm' ? ARM_VARIANTS.indexOf(variant) : -1;
  return ARM_VARIANTS.slice(0, Math.max(newer, 0))
    .reverse()
    .map(older => ({ os, architecture, variant: older }));
}
