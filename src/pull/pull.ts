// The life of a pull, behind every way in: what a reference serves, plain or augmented.
import type { Augmented, Document } from '../augment/augment.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import { type Blob, bytesBlob } from '../cache/read-through/cached.ts';
import type { Memory } from '../memory.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { isIndexType, mediaTypes } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import { parseTagOrDigest } from '../oci/reference.ts';
import type { CallOptions, TagList, TagPage } from '../upstream/upstream.ts';
import type { Augmentations, AugmentedPull } from './derived-images.ts';
import { chooseImage } from './images.ts';
import type { Layers } from './layers/layers.ts';
import type { Origin } from './origin.ts';
import { provenanceReferrers } from './provenance-referrers.ts';
import type { ReferrersIndex, ReferrersPage } from './registry.ts';
import { createReader } from './source-reader.ts';
import { createTokenReach } from './tokens/token-reach.ts';

/** What admission makes of a request: an origin, and what its image becomes if anything. */
export interface Pull {
  readonly origin: Origin;
  readonly augmented?: TokenPull;
}

/** The augmentation of a token: it names one image, and serves only what that image became. */
interface TokenPull extends AugmentedPull {
  /** The only tag that is served; undefined where the image was named by its digest. */
  readonly tag: string | undefined;
  /** What the tag was promised to serve; undefined where a build made the source, of which nothing was known then. */
  readonly targetDigest: Digest | undefined;
}

export interface ServedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly raw: Uint8Array;
}

interface ManifestOptions extends CallOptions {
  /** False for old clients: a tag then gives the image of the default platform. */
  readonly acceptsIndex: boolean;
  /** The types of manifests that the client takes beside those of images. */
  readonly accept?: readonly string[];
}

/** Every function throws RegistryError. */
export interface PullProxy {
  getManifest(pull: Pull, reference: string, options: ManifestOptions): Promise<ServedManifest>;
  getBlob(pull: Pull, digest: Digest, options?: CallOptions): Promise<Blob>;
  headBlob(pull: Pull, digest: Digest): Promise<{ readonly size: number | undefined }>;
  listTags(pull: Pull, page: TagPage, options?: CallOptions): Promise<TagList>;
  /** Referrers of the artifact type alone where one is given; undefined when there are none. Of what was made, its provenance. */
  findReferrers(pull: Pull, digest: Digest, options?: ReferrersPage): Promise<ReferrersIndex | undefined>;
}

interface ProxyDeps {
  readonly layers: Layers;
  readonly augmentations: Augmentations;
  readonly memory: Memory;
}

/** How a manifest is asked for. */
type Asking = Omit<ManifestOptions, 'acceptsIndex'>;

const DEFAULT_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

export function createProxy({ layers, augmentations, memory }: ProxyDeps): PullProxy {
  const reachOf = createTokenReach(memory);

  async function resolveTag({ origin, augmented: pull }: Pull, tag: string, options: Asking): Promise<Digest> {
    if (!pull) return origin.registry.resolveTag(origin.repository, tag, options);
    if (tag !== pull.tag) throw unknown(`this token serves ${pull.sourceName}, not the tag "${tag}"`);
    const { root } = await augmentations.get(pull, options.signal);
    if (root.digest === (pull.targetDigest ?? root.digest)) return root.digest;
    throw unknown(
      `this token was given out for ${pull.targetDigest}, which another version made: submit the request anew`,
    );
  }

  async function readManifest(
    { origin, augmented: pull }: Pull,
    digest: Digest,
    options: Asking = {},
  ): Promise<Manifest> {
    options.signal?.throwIfAborted();
    if (!pull) return origin.registry.getManifest(origin.repository, digest, options);
    const augmented = await augmentations.get(pull, options.signal);
    const made = augmented.made.get(digest);
    if (made) return parseManifest(made.raw, made.mediaType, digest);
    refuseSource(pull, augmented, digest);
    if (await reachOf(pull, augmented).hasManifest(digest))
      return origin.registry.getManifest(origin.repository, digest);
    throw unknown(`this token serves ${pull.sourceName}, and not ${digest}`);
  }

  /** A layer on top, as it was given or as it became. */
  async function findLayer({ augmented: pull }: Pull, digest: Digest): Promise<LayerSource | undefined> {
    const given = pull?.layerSources.find(layer => layer.digest === digest);
    return given ?? (pull && (await augmentations.get(pull)).moved.get(digest));
  }

  async function findMade({ augmented }: Pull, digest: Digest): Promise<Document | undefined> {
    return augmented && (await augmentations.get(augmented)).made.get(digest);
  }

  async function readConfig(pull: Pull, descriptor: ContentDescriptor): Promise<Uint8Array> {
    const made = await findMade(pull, descriptor.digest);
    return made ? made.raw : createReader(pull.origin).readConfig(descriptor);
  }

  /** Throws BLOB_UNKNOWN for what does not hang from the token. Whether the repository has it is not told. */
  async function requireReached(pull: TokenPull | undefined, digest: Digest): Promise<void> {
    if (!pull || (await reachOf(pull, await augmentations.get(pull)).hasBlob(digest))) return;
    throw new RegistryError('BLOB_UNKNOWN', `this token serves ${pull.sourceName}, which has no ${digest}`);
  }

  return {
    async getManifest(pull, reference, { acceptsIndex, ...options }) {
      const parsed = parseTagOrDigest(reference);
      if ('digest' in parsed) return readManifest(pull, parsed.digest, options);
      const manifest = await readManifest(pull, await resolveTag(pull, parsed.tag, options), options);
      if (manifest.kind !== 'index' || acceptsIndex) return manifest;
      return chooseImage(manifest, DEFAULT_PLATFORM, {
        readManifest: ({ digest }) => readManifest(pull, digest, { signal: options.signal }),
        readConfig: descriptor => readConfig(pull, descriptor),
      });
    },
    async getBlob(pull, digest, options) {
      const made = await findMade(pull, digest);
      if (made) return bytesBlob(made.raw);
      const layer = await findLayer(pull, digest);
      if (layer) return layers.get(layer);
      await requireReached(pull.augmented, digest);
      return pull.origin.registry.getBlob(pull.origin.repository, digest, options);
    },
    async headBlob(pull, digest) {
      const made = await findMade(pull, digest);
      if (made) return made;
      const layer = await findLayer(pull, digest);
      if (layer) return layers.head(layer);
      await requireReached(pull.augmented, digest);
      return pull.origin.registry.headBlob(pull.origin.repository, digest);
    },
    async listTags({ origin, augmented }, page, options) {
      if (augmented) return { tags: tagsOf(augmented, page), hasMore: false };
      return origin.registry.listTags(origin.repository, page, options);
    },
    async findReferrers({ origin, augmented }, digest, options) {
      const image = augmented && (await augmentations.get(augmented));
      if (image?.made.has(digest)) return provenanceReferrers(image, digest, options);
      if (augmented && image && !(await reachOf(augmented, image).hasSubject(digest))) return undefined;
      return origin.registry.findReferrers(origin.repository, digest, options);
    },
  };
}

function tagsOf({ tag }: TokenPull, { n = 1, last = '' }: TagPage): readonly string[] {
  return tag !== undefined && n > 0 && tag > last ? [tag] : [];
}

/** The image that the token changes is never served as it was, by no digest of it, unless it is for a platform that stays. */
function refuseSource(pull: TokenPull, { root, images, kept }: Augmented, digest: Digest): void {
  if (kept.has(digest)) return;
  const rewritten = images.find(image => image.source === digest && image.target !== digest);
  const isSourceRoot = digest === pull.sourceDigest && root.digest !== digest;
  if (!rewritten && !isSourceRoot) return;
  throw unknown(`${digest} is the source image; through this token it is ${rewritten?.target ?? root.digest}`);
}

function unknown(message: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', message);
}

/** Whether a client that sent these Accept headers can take an index. None, or a wildcard, takes all. */
export function acceptsIndex(accept: string | undefined): boolean {
  if (!accept) return true;
  const types = accept.split(',').map(part => part.split(';', 1)[0]?.trim().toLowerCase() ?? '');
  return (
    types.some(type => isIndexType(type) || type === '*/*' || type === 'application/*') || !types.some(isImageType)
  );
}

function isImageType(type: string): boolean {
  return type === mediaTypes.ociManifest || type === mediaTypes.dockerManifest;
}
