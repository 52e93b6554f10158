// Images as builds see them: where bases come from, and where results go. The rooms above give both.
import type { ContentDescriptor, Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';

/** Every function throws RegistryError. */
export interface BaseImages {
  /** What a reference in a Containerfile means now. A name without a registry is docker.io's, as in every builder, unless it is a hosted one's or an alias's. */
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
  /** Pushes and verifies; does nothing where it is there. `open` is called where the bytes are needed. */
  putBlob(blob: ContentDescriptor, open: () => Promise<ReadableStream<Uint8Array>>): Promise<void>;
  /** What a manifest refers to has to be there before. Without tags it is reachable by its digest alone. */
  putManifest(manifest: PushedDocument): Promise<void>;
  /** What a tag points to; undefined where there is none. */
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
