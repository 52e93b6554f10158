// A registry with derived images layered over it. Tokens, rules and copies differ in which images are derived; lookup by digest is the same
// for all: an appended layer, else a derived document, else the registry's content.
import type { Document } from '../augment/augment.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import { bytesBlob } from '../cache/read-through/cached.ts';
import type { ResolveOptions } from '../cache/read-through/tags.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { isIndexType, mediaTypes } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import { parseTagOrDigest } from '../oci/reference.ts';
import { isTransient } from '../state/store.ts';
import type { CallOptions } from '../upstream/upstream.ts';
import type { DerivedImage } from './derived-images.ts';
import { chooseImage } from './images.ts';
import type { Layers } from './layers/layers.ts';
import type { Origin } from './origin.ts';
import { encodeReferrers, type ReferrersIndex, type ReferrersPage, type Registry } from './registry.ts';

/** A registry as clients pull from it. */
export interface AugmentedRegistry extends Registry {
  /**
   * The manifest that a tag points to. A manifest derived for it is not looked up again by digest. May wait for a build, as `resolveTag`.
   */
  getTag(repository: string, tag: string, options?: ResolveOptions): Promise<ServedManifest>;
}

/** A manifest as served to clients. */
export type ServedManifest = Pick<Manifest, 'digest' | 'mediaType' | 'raw'>;

/** The derived images over a registry. Every function throws RegistryError. */
export interface Overlay {
  /** The target of a tag, with its image if that is derived. Absent: the registry's. */
  resolveTag?(repository: string, tag: string, options?: ResolveOptions): Promise<ResolvedTag>;
  /** Undefined for a digest that is not part of a derived image, or is an unchanged part of its source. */
  find(repository: string, digest: Digest): Promise<Part | undefined>;
}

export interface ResolvedTag {
  readonly digest: Digest;
  readonly image?: DerivedImage | undefined;
}

/** A part of a derived image. */
interface Part {
  /** The location of the bytes of an appended layer. */
  readonly layer?: LayerSource | undefined;
  /** The image, which may have to be derived again. */
  image(): Promise<DerivedImage>;
}

/**
 * `registry` is used for everything that the overlay does not have: it may refuse content that must not be visible beside the derived
 * images.
 */
export function createAugmentedRegistry(
  registry: Registry,
  overlay: Overlay,
  layers: Pick<Layers, 'get' | 'head'>,
): AugmentedRegistry {
  async function resolveTag(repository: string, tag: string, options?: ResolveOptions): Promise<ResolvedTag> {
    if (overlay.resolveTag) return overlay.resolveTag(repository, tag, options);
    return { digest: await registry.resolveTag(repository, tag, options) };
  }

  /**
   * While records are unavailable, content of the registry is still served. Content that it lacks may be derived, so `orThrow` then throws
   * the records' failure instead of reporting it absent.
   */
  async function find(repository: string, digest: Digest) {
    try {
      return { part: await overlay.find(repository, digest), orThrow: rethrow };
    } catch (failure) {
      if (!isTransient(failure)) throw failure;
      return { part: undefined, orThrow: (error: unknown) => rethrow(isNotFound(error) ? failure : error) };
    }
  }

  return {
    ...registry,
    resolveTag: async (repository, tag, options) => (await resolveTag(repository, tag, options)).digest,
    async getTag(repository, tag, options) {
      const { digest, image } = await resolveTag(repository, tag, options);
      const document = image?.derived.get(digest);
      return document ?? registry.getManifest(repository, digest, options);
    },
    async getManifest(repository, digest, options) {
      const { part, orThrow } = await find(repository, digest);
      const document = await documentOf(part, digest);
      return document ? toManifest(document) : registry.getManifest(repository, digest, options).catch(orThrow);
    },
    async readConfig(repository, descriptor) {
      const { part, orThrow } = await find(repository, descriptor.digest);
      const document = await documentOf(part, descriptor.digest);
      return document ? document.raw : registry.readConfig(repository, descriptor).catch(orThrow);
    },
    async headBlob(repository, digest) {
      const { part, orThrow } = await find(repository, digest);
      if (part?.layer) return layers.head(part.layer);
      return (await documentOf(part, digest)) ?? registry.headBlob(repository, digest).catch(orThrow);
    },
    async getBlob(repository, digest, options) {
      const { part, orThrow } = await find(repository, digest);
      if (part?.layer) return layers.get(part.layer);
      const document = await documentOf(part, digest);
      return document ? bytesBlob(document.raw) : registry.getBlob(repository, digest, options).catch(orThrow);
    },
    async findReferrers(repository, digest, options) {
      const image = await (await overlay.find(repository, digest))?.image();
      if (image?.derived.has(digest)) return listProvenance(image, digest, options);
      return registry.findReferrers(repository, digest, options);
    },
  };
}

/** The registry without derived images. */
export function createPlainRegistry(registry: Registry): AugmentedRegistry {
  return {
    ...registry,
    async getTag(repository, tag, options) {
      return registry.getManifest(repository, await registry.resolveTag(repository, tag, options), options);
    },
  };
}

/** A single derived image, for any digest. `layers` are the original ones. */
export function createImageOverlay(derive: () => Promise<DerivedImage>, layers: readonly LayerSource[]): Overlay {
  const given = new Map(layers.map(layer => [layer.digest, layer]));
  return {
    async find(_, digest) {
      const image = await derive();
      return { layer: given.get(digest) ?? image.moved.get(digest), image: async () => image };
    },
  };
}

function rethrow(error: unknown): never {
  throw error;
}

function isNotFound(error: unknown): boolean {
  return error instanceof RegistryError && error.status === 404;
}

async function documentOf(part: Part | undefined, digest: Digest): Promise<Document | undefined> {
  return part && (await part.image()).derived.get(digest);
}

function toManifest({ raw, mediaType, digest }: Document): Manifest {
  return parseManifest(raw, mediaType, digest);
}

/** On a single page. Derived images have no other referrers: those of the source refer to the source's digest. */
function listProvenance(
  { provenance }: Pick<DerivedImage, 'provenance'>,
  subject: Digest,
  { artifactType }: ReferrersPage = {},
): ReferrersIndex {
  const descriptors = provenance.filter(each => each.subject === subject).map(({ descriptor }) => descriptor);
  const wanted = descriptors.filter(each => artifactType === undefined || each.artifactType === artifactType);
  return { raw: encodeReferrers(wanted) };
}

// Pulls a manifest: selects the manifest that a reference gives the client.

/** The result of admission: an origin as visible to the client. */
export interface Pull extends Origin {
  readonly registry: AugmentedRegistry;
}

const DEFAULT_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

/** Throws RegistryError. */
export async function pullManifest(
  { registry, repository }: Pull,
  reference: string,
  {
    acceptsIndex,
    ...options
  }: CallOptions & {
    /** False for old clients: a tag then gives the image of the default platform. */
    readonly acceptsIndex: boolean;
    /** Manifest types that the client accepts besides those of images. */
    readonly accept?: readonly string[];
  },
): Promise<ServedManifest> {
  const { signal } = options;
  signal?.throwIfAborted();
  const parsed = parseTagOrDigest(reference);
  if ('digest' in parsed) return registry.getManifest(repository, parsed.digest, options);
  const served = await registry.getTag(repository, parsed.tag, options);
  if (acceptsIndex) return served;
  const manifest = parseManifest(served.raw, served.mediaType, served.digest);
  if (manifest.kind !== 'index') return served;
  return chooseImage(manifest, DEFAULT_PLATFORM, {
    async readManifest({ digest }) {
      signal?.throwIfAborted();
      return registry.getManifest(repository, digest);
    },
    readConfig: descriptor => registry.readConfig(repository, descriptor),
  });
}

/** Whether a client with these Accept headers accepts an index. None, or a wildcard, accepts all. */
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
