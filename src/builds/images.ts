// Images as builds see them: where base images come from, and where results are pushed. The rooms above implement both.
import type { ContentDescriptor, Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';

/** Every function throws RegistryError. */
export interface BaseImages {
  /**
   * The current digest of a reference in a Containerfile. A name without a registry is on docker.io, as in every builder, unless it is
   * hosted here or behind an alias.
   */
  resolve(reference: string): Promise<Digest>;
  open(reference: string, digest: Digest): Promise<BaseImage>;
}

export interface BaseImage {
  readonly root: Manifest;
  readManifest(descriptor: Descriptor): Promise<Manifest>;
  /** Whole and verified. */
  readConfig(descriptor: ContentDescriptor): Promise<Uint8Array>;
  /** The caller reads it to its end or cancels it. */
  openBlob(digest: Digest): Promise<ReadableStream<Uint8Array>>;
}

/** A repository that can be pushed to: hosted here, or in another registry. Every function throws RegistryError. */
export interface Destination {
  /** The full name of the repository. */
  readonly repository: string;
  hasBlob(digest: Digest): Promise<boolean>;
  /** Verifies and pushes the blob unless the repository has it. `open` is only called if the bytes are needed. */
  putBlob(blob: ContentDescriptor, open: () => Promise<ReadableStream<Uint8Array>>): Promise<void>;
  /** Everything that the manifest refers to must be pushed before. Without tags it is only reachable by digest. */
  putManifest(manifest: PushedDocument): Promise<void>;
  /** The digest that a tag points to; undefined if it does not exist. */
  findTag(tag: string): Promise<Digest | undefined>;
}

export interface PushedDocument {
  readonly raw: Uint8Array;
  readonly mediaType: string;
  readonly digest: Digest;
  readonly tags: readonly string[];
}

/** Throws RegistryError for a repository that cannot be pushed to. */
export type OpenDestination = (repository: string) => Destination;
