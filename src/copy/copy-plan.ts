// What a copy has to bring: all manifests below its roots, children first, and all blobs, each once.
import pLimit from 'p-limit';
import { isUnknownPlatform } from '../augment/source.ts';
import { type ManifestDocument, parseDocument } from '../hosted/repository/manifest-document.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { Manifest } from '../oci/manifest.ts';
import { isLayerType, isNondistributableType } from '../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../oci/platform.ts';

export interface CopyPlan {
  /** The last root is the last. */
  readonly manifests: readonly PlannedManifest[];
  readonly blobs: readonly PlannedBlob[];
}

/** What is to be reachable by its tags; without tags, by its digest. */
export interface CopyRoot {
  readonly manifest: Manifest;
  readonly tags: readonly string[];
}

export interface PlannedManifest extends CopyRoot {
  /** As an entry of the index names it, normalised. */
  readonly platform: string | undefined;
}

export interface PlannedBlob {
  readonly descriptor: Descriptor;
  /** The first one that needs it. */
  readonly platform: string | undefined;
}

const MAX_MANIFESTS = 1024;
/** Of all manifests: they are in memory at once. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024;
const MAX_READS = 8;

/** Throws MANIFEST_INVALID for an image that is too large or says nothing of its types, and what `read` throws. */
export async function planCopy(
  roots: readonly CopyRoot[],
  read: (digest: Digest) => Promise<Manifest>,
): Promise<CopyPlan> {
  const tags = Map.groupBy(roots, ({ manifest }) => manifest.digest);
  const tagsOf = (digest: Digest) => tags.get(digest)?.flatMap(root => root.tags) ?? [];
  const manifests = new Map<Digest, PlannedManifest>();
  const blobs = new Map<Digest, PlannedBlob>();
  const seen = new Set<Digest>();
  const limit = pLimit(MAX_READS);
  let bytes = 0;

  async function visit(manifest: Manifest, platform: string | undefined): Promise<void> {
    if (seen.has(manifest.digest)) return;
    seen.add(manifest.digest);
    const document = parseDocument(manifest.raw, manifest.mediaType);
    for (const descriptor of blobsOf(document)) {
      if (!blobs.has(descriptor.digest)) blobs.set(descriptor.digest, { descriptor, platform });
    }
    await visitEntries(document.manifests.filter(isManifest), platform);
    manifests.set(manifest.digest, { manifest, tags: tagsOf(manifest.digest), platform });
  }

  async function visitEntries(entries: readonly Descriptor[], outer: string | undefined): Promise<void> {
    if (seen.size + entries.length > MAX_MANIFESTS) throw tooLarge();
    const children = entries.map(entry => limit(async () => ({ entry, child: await readWithin(entry.digest) })));
    const found = await Promise.all(children).finally(() => limit.clearQueue());
    for (const { entry, child } of found) await visit(child, platformOf(entry) ?? outer);
  }

  /** As they come, and not when all are here. */
  async function readWithin(digest: Digest): Promise<Manifest> {
    const manifest = await read(digest);
    bytes += manifest.raw.byteLength;
    if (bytes > MAX_TOTAL_BYTES) throw tooLarge();
    return manifest;
  }

  for (const { manifest } of roots) await visit(manifest, undefined);
  return { manifests: [...manifests.values()], blobs: [...blobs.values()] };
}

/** Without layers that have an address of their own: whoever made them keeps them there. */
function blobsOf({ blobs, manifests }: ManifestDocument): readonly Descriptor[] {
  const all = [...blobs, ...manifests.filter(entry => !isManifest(entry))];
  return all.filter(({ mediaType, urls }) => !(isNondistributableType(mediaType) && urls && urls.length > 0));
}

/** An index may list layers, as those of build caches do. */
function isManifest({ mediaType }: Descriptor): boolean {
  return !isLayerType(mediaType);
}

function platformOf({ platform }: Descriptor): string | undefined {
  if (!platform?.architecture || isUnknownPlatform(platform)) return undefined;
  return formatPlatform(normalizePlatform(platform));
}

function tooLarge(): RegistryError {
  const reason = `more than ${MAX_MANIFESTS} manifests, or ${MAX_TOTAL_BYTES} bytes of them`;
  return new RegistryError('MANIFEST_INVALID', `the image cannot be copied: it has ${reason}`);
}
