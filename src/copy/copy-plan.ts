// Plans a copy: all manifests below its roots, children first, and all blobs, each once.
import pLimit from 'p-limit';
import { isUnknownPlatform } from '../augment/source.ts';
import { type ManifestDocument, parseDocument } from '../hosted/repository/manifest-document.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { orUndefined, RegistryError } from '../oci/errors.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { isLayerType, isNondistributableType, mediaTypes } from '../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../oci/platform.ts';
import type { Origin } from '../pull/origin.ts';

export interface CopyPlan {
  /** The last root comes last. */
  readonly manifests: readonly PlannedManifest[];
  readonly blobs: readonly PlannedBlob[];
}

/** The one to be tagged or, without tags, to be reachable by its digest. */
interface CopyRoot {
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
/** For all manifests, which are in memory at once. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024;
const MAX_READS = 8;

/** Throws MANIFEST_INVALID for an image that is too large or has entries without types, and what `read` throws. */
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

  /** Yielded one by one, without waiting for all. */
  async function readWithin(digest: Digest): Promise<Manifest> {
    const manifest = await read(digest);
    bytes += manifest.raw.byteLength;
    if (bytes > MAX_TOTAL_BYTES) throw tooLarge();
    return manifest;
  }

  for (const { manifest } of roots) await visit(manifest, undefined);
  return { manifests: [...manifests.values()], blobs: [...blobs.values()] };
}

/** Without foreign layers: their publisher serves them. */
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

// The companions of an image, which go with a mirror of it: its referrers, and what cosign stores under tags made of digests.

const SUFFIXES = ['sig', 'att', 'sbom'] as const;
/** For all images together, and their companions. */
const MAX_REFERRERS = 256;
const MAX_ASKED = 4;
/** How registries report that there are none, or that they do not support the query. */
const NONE: readonly number[] = [400, 404, 405];

/**
 * For all `subjects` and everything found; an artifact found in two ways appears twice. Throws MANIFEST_INVALID for too many, and what the
 * registry throws.
 */
export async function readReferrers(origin: Origin, subjects: readonly Digest[]): Promise<readonly CopyRoot[]> {
  const found: CopyRoot[] = [];
  const asked = new Set(subjects);
  const limit = pLimit(MAX_ASKED);
  let next = subjects;
  while (next.length > 0) {
    const about = (await Promise.all(next.map(subject => limit(() => readAbout(origin, subject))))).flat();
    found.push(...about);
    if (found.length > MAX_REFERRERS) throw tooMany();
    next = [...new Set(about.map(({ manifest }) => manifest.digest)).difference(asked)];
    for (const digest of next) asked.add(digest);
  }
  return found;
}

async function readAbout(origin: Origin, subject: Digest): Promise<readonly CopyRoot[]> {
  const tags = SUFFIXES.map(suffix => `${digestAlgorithm(subject)}-${digestHex(subject)}.${suffix}`);
  const tagged = await Promise.all(tags.map(tag => findTagged(origin, tag)));
  const digests = await listReferrers(origin, subject);
  const referrers = digests.map(async digest => ({ manifest: await read(origin, digest), tags: [] }));
  return [...tagged.flatMap(root => root ?? []), ...(await Promise.all(referrers))];
}

async function findTagged(origin: Origin, tag: string): Promise<CopyRoot | undefined> {
  // No tag is as long as this of a sha512 digest.
  if (tag.length > 128) return undefined;
  const digest = await orUndefined(origin.registry.resolveTag(origin.repository, tag), NONE);
  return digest && { manifest: await read(origin, digest), tags: [tag] };
}

async function listReferrers({ registry, repository }: Origin, subject: Digest): Promise<readonly Digest[]> {
  const digests: Digest[] = [];
  let last: Digest | undefined;
  do {
    const page = await orUndefined(registry.findReferrers(repository, subject, { last }), NONE);
    const index = page && parseManifest(page.raw, mediaTypes.ociIndex);
    if (index?.kind === 'index') digests.push(...index.manifests.map(({ digest }) => digest));
    if (digests.length > MAX_REFERRERS) throw tooMany();
    last = page?.last;
  } while (last);
  return digests;
}

function read({ registry, repository }: Origin, digest: Digest): Promise<Manifest> {
  return registry.getManifest(repository, digest);
}

function tooMany(): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `the image cannot be copied: more than ${MAX_REFERRERS} referrers`);
}
