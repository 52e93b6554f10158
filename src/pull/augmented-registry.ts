// One registry over another: what was derived from its images is served in its place. Tokens, rules and copies differ in which images these
// are; what a digest gives is the same for all: a layer that was put on top, else a document that was derived, else what the registry has.
import type { Document } from '../augment/augment.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import { bytesBlob } from '../cache/read-through/cached.ts';
import type { ResolveOptions } from '../cache/read-through/tags.ts';
import type { Digest } from '../oci/digest.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import type { DerivedImage } from './derived-images.ts';
import type { Layers } from './layers/layers.ts';
import { encodeReferrers, type ReferrersIndex, type ReferrersPage, type Registry } from './registry.ts';

/** A registry as clients pull from it. */
export interface AugmentedRegistry extends Registry {
  /** The manifest that a tag points to. One that was derived for it is not looked up again by its digest. May wait for a build, as `resolveTag`. */
  getTag(repository: string, tag: string, options?: ResolveOptions): Promise<ServedManifest>;
}

/** A manifest as clients get it. */
export type ServedManifest = Pick<Manifest, 'digest' | 'mediaType' | 'raw'>;

/** Which derived images lie over a registry. Every function throws RegistryError. */
export interface Overlay {
  /** What a tag leads to, with its image where that is a derived one. Absent: what it leads to in the registry. */
  resolveTag?(repository: string, tag: string, options?: ResolveOptions): Promise<ResolvedTag>;
  /** Undefined for a digest that is no part of a derived image, or that such an image has from its source as it was. */
  find(repository: string, digest: Digest): Promise<Part | undefined>;
}

export interface ResolvedTag {
  readonly digest: Digest;
  readonly image?: DerivedImage | undefined;
}

/** A part of a derived image. */
interface Part {
  /** Where its bytes are, of a layer on top. */
  readonly layer?: LayerSource | undefined;
  /** The image, which may have to be derived again. */
  image(): Promise<DerivedImage>;
}

/** `registry` is asked for all that the overlay has not: it may refuse what must not be seen beside the derived images. */
export function createAugmentedRegistry(
  registry: Registry,
  overlay: Overlay,
  layers: Pick<Layers, 'get' | 'head'>,
): AugmentedRegistry {
  async function resolveTag(repository: string, tag: string, options?: ResolveOptions): Promise<ResolvedTag> {
    if (overlay.resolveTag) return overlay.resolveTag(repository, tag, options);
    return { digest: await registry.resolveTag(repository, tag, options) };
  }

  async function findDocument(repository: string, digest: Digest): Promise<Document | undefined> {
    return documentOf(await overlay.find(repository, digest), digest);
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
      const document = await findDocument(repository, digest);
      return document ? toManifest(document) : registry.getManifest(repository, digest, options);
    },
    async readConfig(repository, descriptor) {
      const document = await findDocument(repository, descriptor.digest);
      return document ? document.raw : registry.readConfig(repository, descriptor);
    },
    async headBlob(repository, digest) {
      const part = await overlay.find(repository, digest);
      if (part?.layer) return layers.head(part.layer);
      return (await documentOf(part, digest)) ?? registry.headBlob(repository, digest);
    },
    async getBlob(repository, digest, options) {
      const part = await overlay.find(repository, digest);
      if (part?.layer) return layers.get(part.layer);
      const document = await documentOf(part, digest);
      return document ? bytesBlob(document.raw) : registry.getBlob(repository, digest, options);
    },
    async findReferrers(repository, digest, options) {
      const image = await (await overlay.find(repository, digest))?.image();
      if (image?.derived.has(digest)) return listProvenance(image, digest, options);
      return registry.findReferrers(repository, digest, options);
    },
  };
}

/** The registry as it is: no image lies over it. */
export function createPlainRegistry(registry: Registry): AugmentedRegistry {
  return {
    ...registry,
    async getTag(repository, tag, options) {
      return registry.getManifest(repository, await registry.resolveTag(repository, tag, options), options);
    },
  };
}

/** One derived image alone, whatever digest is asked for. `layers` are those that it was given. */
export function createImageOverlay(derive: () => Promise<DerivedImage>, layers: readonly LayerSource[]): Overlay {
  const given = new Map(layers.map(layer => [layer.digest, layer]));
  return {
    async find(_, digest) {
      const image = await derive();
      return { layer: given.get(digest) ?? image.moved.get(digest), image: async () => image };
    },
  };
}

async function documentOf(part: Part | undefined, digest: Digest): Promise<Document | undefined> {
  return part && (await part.image()).derived.get(digest);
}

function toManifest({ raw, mediaType, digest }: Document): Manifest {
  return parseManifest(raw, mediaType, digest);
}

/** All on one page. What was derived has no other referrers: those of the source are about the source's digest. */
function listProvenance(
  { provenance }: Pick<DerivedImage, 'provenance'>,
  subject: Digest,
  { artifactType }: ReferrersPage = {},
): ReferrersIndex {
  const descriptors = provenance.filter(each => each.subject === subject).map(({ descriptor }) => descriptor);
  const wanted = descriptors.filter(each => artifactType === undefined || each.artifactType === artifactType);
  return { raw: encodeReferrers(wanted) };
}
