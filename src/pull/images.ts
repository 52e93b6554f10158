// Finds the images behind a reference, with their platforms, through nested indexes: for inspection, and as bases of builds.
import { checkAvailable, isChosen } from '../augment/augmentation.ts';
import { isUnknownPlatform, type SourceReader } from '../augment/source.ts';
import type { BaseImages } from '../builds/images.ts';
import { type Descriptor, findManifests } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageIndex, ImageManifest, Manifest } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import { DOCKER_HUB, type Origin, type Origins, resolveReference } from './origin.ts';
import { createReader, withinBudget } from './source-reader.ts';

/** An entry for a platform. */
export interface Candidate {
  readonly platform: Platform;
  /** Fetched on demand: an index may state the platform. */
  readonly read: () => Promise<Manifest>;
}

const MAX_DEPTH = 4;
const MAX_TOTAL_ENTRIES = 512;

/** All images, in the order of the index. Throws as `findImages` does. */
export function listImages(root: Manifest, reader: SourceReader): Promise<readonly Candidate[]> {
  return Array.fromAsync(findImages(root, reader));
}

/**
 * The first image for a platform; later entries are not read. Throws MANIFEST_UNKNOWN, listing the available platforms, when there is none.
 */
export async function chooseImage(root: Manifest, platform: Platform, reader: SourceReader): Promise<Manifest> {
  const available: Platform[] = [];
  for await (const candidate of findImages(root, reader)) {
    if (isChosen(candidate.platform, [platform])) return candidate.read();
    available.push(candidate.platform);
  }
  checkAvailable([platform], available);
  return root;
}

/** Sequentially, in the order of the index. Throws MANIFEST_INVALID for an index that is too deep or too large. */
async function* findImages(root: Manifest, source: SourceReader): AsyncGenerator<Candidate> {
  const reader = withinBudget(source);
  let total = 0;
  yield* visit(root, 1);

  async function* visit(manifest: Manifest, depth: number): AsyncGenerator<Candidate> {
    if (manifest.kind === 'other') return;
    if (manifest.kind === 'image') {
      const platform = configPlatform(parseImageConfig(await reader.readConfig(manifest.config)));
      yield { platform, read: async () => manifest };
      return;
    }
    const entries = findManifests(manifest.manifests);
    total += entries.length;
    if (depth > MAX_DEPTH) throw invalid(`its indexes nest deeper than ${MAX_DEPTH}`);
    if (total > MAX_TOTAL_ENTRIES) throw invalid(`it has more than ${MAX_TOTAL_ENTRIES} entries`);
    for (const entry of entries) yield* visitEntry(entry, depth);
  }

  async function* visitEntry(entry: Descriptor, depth: number): AsyncGenerator<Candidate> {
    const { mediaType, platform } = entry;
    const read = () => reader.readManifest(entry);
    if (!platform?.architecture || isIndexType(mediaType)) yield* visit(await read(), depth + 1);
    else if (!isUnknownPlatform(platform)) yield { platform, read };
  }
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid index: ${reason}`);
}

/** The current target of a reference in its registry: an image with its config, or an index. */
export type Inspected = { readonly registry: string; readonly repository: string } & (
  | { readonly kind: 'image'; readonly manifest: ImageManifest; readonly config: Uint8Array }
  | { readonly kind: 'index'; readonly manifest: ImageIndex }
);

/**
 * The target of the reference, or the image of `platform` in it, through nested indexes.
 * Throws RegistryError: the upstream's own, MANIFEST_UNKNOWN listing the available platforms, or MANIFEST_INVALID for anything but an
 * image.
 */
export type Inspect = (
  reference: Reference,
  options?: { readonly platform?: Platform | undefined; readonly signal?: AbortSignal | undefined },
) => Promise<Inspected>;

export function createInspect(origins: Origins): Inspect {
  return async (reference, { platform, signal } = {}) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const digest = await resolveReference(origin, reference, { signal });
    const root = await origin.registry.getManifest(origin.repository, digest);
    const reader = createReader(origin, { signal });
    const manifest = platform ? await chooseImage(root, platform, reader) : root;
    const place = { registry: origin.registry.name, repository: origin.repository };
    if (manifest.kind === 'index') return { ...place, kind: 'index', manifest };
    if (manifest.kind === 'image') {
      return { ...place, kind: 'image', manifest, config: await reader.readConfig(manifest.config) };
    }
    throw new RegistryError('MANIFEST_INVALID', `cannot be inspected: ${manifest.mediaType} is not an image`);
  };
}

/**
 * The default upstream is for pulls only: a Containerfile must mean the same in every builder. Throws NAME_INVALID, TAG_INVALID,
 * DIGEST_INVALID or DENIED.
 */
export function locateBase(origins: Origins, text: string): Origin {
  const { registry, repository } = parseReference(text);
  if (registry !== undefined) return origins.locate(registry, repository);
  return origins.findNamed(repository) ?? origins.locate(DOCKER_HUB, repository);
}

export function createBaseImages(origins: Origins): BaseImages {
  return {
    async resolve(text) {
      return resolveReference(locateBase(origins, text), parseReference(text));
    },
    async open(text, digest) {
      const origin = locateBase(origins, text);
      const { registry, repository } = origin;
      return {
        root: await registry.getManifest(repository, digest),
        ...createReader(origin),
        openBlob: async blob => (await registry.getBlob(repository, blob)).open(),
      };
    },
  };
}
