// The life of a pull, behind every way in: what a reference serves, plain or augmented.
import type { Augmented } from '../augment/augment.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { type ImageIndex, type Manifest, parseManifest } from '../oci/manifest.ts';
import { isIndexType, mediaTypes } from '../oci/media-type.ts';
import { isSamePlatform, type Platform } from '../oci/platform.ts';
import { parseTagOrDigest } from '../oci/reference.ts';
import type { TagList, TagPage } from '../upstream/upstream.ts';
import { type Blob, type Blobs, bytesBlob } from './blobs.ts';
import type { Tags } from './freshness.ts';
import type { Layers } from './layers.ts';
import type { Manifests } from './manifests.ts';
import type { Origin } from './origin.ts';
import type { Augmentations, AugmentedPull } from './pull.ts';

/** What admission makes of a request: an origin, and what its image becomes if anything. */
export interface Pull {
  readonly origin: Origin;
  readonly augmented?: TokenPull;
}

/** The augmentation of a token: it names one image, and serves only what that image became. */
export interface TokenPull extends AugmentedPull {
  /** The only tag that is served; undefined where the image was named by its digest. */
  readonly tag: string | undefined;
  readonly layerSources: readonly LayerSource[];
}

export interface ServedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly raw: Uint8Array;
}

/** Every function throws RegistryError. */
export interface PullProxy {
  /** `acceptsIndex` is false for old clients: a tag then gives the image of the default platform. */
  getManifest(pull: Pull, reference: string, options: { readonly acceptsIndex: boolean }): Promise<ServedManifest>;
  getBlob(pull: Pull, digest: Digest): Promise<Blob>;
  headBlob(pull: Pull, digest: Digest): Promise<{ readonly size: number | undefined }>;
  listTags(pull: Pull, page: TagPage): Promise<TagList>;
  /** The bytes of an index; undefined when there are none. */
  findReferrers(pull: Pull, digest: Digest, artifactType: string | undefined): Promise<Uint8Array | undefined>;
}

export interface ProxyDeps {
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
  readonly layers: Layers;
  readonly augmentations: Augmentations;
}

const DEFAULT_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

export function createProxy({ tags, manifests, blobs, layers, augmentations }: ProxyDeps): PullProxy {
  async function getPlain(origin: Origin, reference: string): Promise<{ manifest: Manifest; byTag: boolean }> {
    const parsed = parseTagOrDigest(reference);
    const digest = 'digest' in parsed ? parsed.digest : await tags.resolve(origin, parsed.tag);
    return { manifest: await manifests.get(origin, digest), byTag: 'tag' in parsed };
  }

  async function getAugmented(pull: TokenPull, reference: string): Promise<{ manifest: Manifest; byTag: boolean }> {
    const parsed = parseTagOrDigest(reference);
    const augmented = await augmentations.get(pull);
    if ('tag' in parsed && parsed.tag !== pull.tag) {
      throw new RegistryError('MANIFEST_UNKNOWN', `this token serves ${pull.sourceName}, not the tag "${parsed.tag}"`);
    }
    const digest = 'digest' in parsed ? parsed.digest : augmented.root.digest;
    const made = augmented.documents.find(document => document.digest === digest);
    if (made) return { manifest: parseManifest(made.raw, made.mediaType), byTag: 'tag' in parsed };
    refuseSource(pull, augmented, digest);
    return { manifest: await manifests.get(pull.origin, digest), byTag: 'tag' in parsed };
  }

  const findManifest = (pull: Pull, reference: string) =>
    pull.augmented ? getAugmented(pull.augmented, reference) : getPlain(pull.origin, reference);

  async function findMade(pull: Pull, digest: Digest): Promise<Blob | undefined> {
    if (!pull.augmented) return undefined;
    const augmented = await augmentations.get(pull.augmented);
    const made = augmented.documents.find(document => document.digest === digest);
    if (made) return bytesBlob(made.raw);
    const source = pull.augmented.layerSources.find(layer => layer.digest === digest);
    return source && layers.get(source);
  }

  return {
    async getManifest(pull, reference, { acceptsIndex }) {
      const { manifest, byTag } = await findManifest(pull, reference);
      if (manifest.kind !== 'index' || acceptsIndex || !byTag) return manifest;
      return (await findManifest(pull, defaultImage(manifest))).manifest;
    },
    getBlob: async (pull, digest) => (await findMade(pull, digest)) ?? blobs.get(pull.origin, digest),
    async headBlob(pull, digest) {
      const layer = pull.augmented?.layerSources.find(source => source.digest === digest);
      return layer ?? (await findMade(pull, digest)) ?? blobs.head(pull.origin, digest);
    },
    async listTags({ origin, augmented }, page) {
      if (augmented) return { tags: augmented.tag ? [augmented.tag] : [], hasMore: false };
      return origin.upstream.listTags(origin.repository, page);
    },
    async findReferrers({ origin, augmented }, digest, artifactType) {
      const isOurs =
        augmented && (await augmentations.get(augmented)).documents.some(document => document.digest === digest);
      return isOurs ? undefined : origin.upstream.findReferrers(origin.repository, digest, artifactType);
    },
  };
}

/** The image that the token changes is never served as it was, by no digest of it. */
function refuseSource(pull: TokenPull, { root, images }: Augmented, digest: Digest): void {
  const rewritten = images.find(image => image.source === digest && image.target !== digest);
  const isSourceRoot = digest === pull.sourceDigest && root.digest !== digest;
  if (!rewritten && !isSourceRoot) return;
  const target = rewritten?.target ?? root.digest;
  throw new RegistryError('MANIFEST_UNKNOWN', `${digest} is the source image; through this token it is ${target}`);
}

function defaultImage(index: ImageIndex): Digest {
  const entry = index.manifests.find(({ platform }) => platform && isSamePlatform(platform, DEFAULT_PLATFORM));
  if (entry) return entry.digest;
  throw new RegistryError(
    'MANIFEST_UNKNOWN',
    'the client accepts no index, and the index has no image for linux/amd64',
  );
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
