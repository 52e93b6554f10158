// One registry, as the life of a pull sees it, whether an upstream behind what is kept of it, or the repositories of our own.
import type { Blob } from '../cache/read-through/cached.ts';
import type { ResolveOptions } from '../cache/read-through/tags.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import type { CallOptions, ManifestOptions, ReferrersOptions, TagList, TagPage } from '../upstream/upstream.ts';

/** Every function throws RegistryError. */
export interface Registry {
  /** What names it in references: a host, an alias, or a prefix of hosted repositories. */
  readonly name: string;
  /** Differs for clients that may not have what each other's credentials opened, and from one time of theirs to the next. */
  readonly scope: string | undefined;
  /** Whether its repositories can be pushed to. */
  readonly isHosted: boolean;
  /** May wait for a build of the image: the signal ends the wait, with its reason. */
  resolveTag(repository: string, tag: string, options?: ResolveOptions): Promise<Digest>;
  getManifest(repository: string, digest: Digest, options?: Pick<ManifestOptions, 'accept'>): Promise<Manifest>;
  /** An image config, whole and verified. Throws MANIFEST_INVALID for one that cannot be used. */
  readConfig(repository: string, descriptor: ContentDescriptor): Promise<Uint8Array>;
  /** Starts no transfer. */
  headBlob(repository: string, digest: Digest): Promise<{ readonly size: number | undefined }>;
  /** The signal ends the wait for a transfer to begin, with its reason. */
  getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Blob>;
  listTags(repository: string, page: TagPage, options?: CallOptions): Promise<TagList>;
  /** Referrers of the artifact type alone where one is given; undefined when there are none. */
  findReferrers(repository: string, digest: Digest, options?: ReferrersPage): Promise<ReferrersIndex | undefined>;
}

export interface ReferrersPage extends ReferrersOptions {
  /** What a page before this one gave as its `last`. */
  readonly last?: Digest | undefined;
}

export interface ReferrersIndex {
  /** The bytes of an index. */
  readonly raw: Uint8Array;
  /** Where the next page begins; undefined where all are here. */
  readonly last?: Digest | undefined;
}

/** The index that the referrers API answers with. distribution-spec "Listing Referrers". */
export function encodeReferrers(manifests: readonly ContentDescriptor[]): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
}
