// A registry as used by pulls: an upstream behind its cache, or our own repositories.
import type { Blob } from '../cache/read-through/cached.ts';
import type { ResolveOptions } from '../cache/read-through/tags.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import type { CallOptions, ManifestOptions, ReferrersOptions, TagList, TagPage } from '../upstream/upstream.ts';

/** Every function throws RegistryError. */
export interface Registry {
  /** Its name in references: a host, an alias, or a prefix of hosted repositories. */
  readonly name: string;
  /** Differs between clients that must not share content opened with each other's credentials, and changes when their scope expires. */
  readonly scope: string | undefined;
  /** Whether its repositories can be pushed to. */
  readonly isHosted: boolean;
  /** May wait for a build of the image: the signal ends the wait, with its reason. */
  resolveTag(repository: string, tag: string, options?: ResolveOptions): Promise<Digest>;
  getManifest(repository: string, digest: Digest, options?: Pick<ManifestOptions, 'accept'>): Promise<Manifest>;
  /** A complete, verified image config. Throws MANIFEST_INVALID for an unusable one. */
  readConfig(repository: string, descriptor: ContentDescriptor): Promise<Uint8Array>;
  /** Never starts a transfer. */
  headBlob(repository: string, digest: Digest): Promise<{ readonly size: number | undefined }>;
  /** The signal ends the wait for a transfer to begin, with its reason. */
  getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Blob>;
  listTags(repository: string, page: TagPage, options?: CallOptions): Promise<TagList>;
  /** Only referrers of the artifact type, if given; undefined when there are none. */
  findReferrers(repository: string, digest: Digest, options?: ReferrersPage): Promise<ReferrersIndex | undefined>;
}

export interface ReferrersPage extends ReferrersOptions {
  /** The `last` of the previous page. */
  readonly last?: Digest | undefined;
}

export interface ReferrersIndex {
  /** The bytes of an index. */
  readonly raw: Uint8Array;
  /** The start of the next page; undefined on the last. */
  readonly last?: Digest | undefined;
}

/** The response of the referrers API. distribution-spec "Listing Referrers". */
export function encodeReferrers(manifests: readonly ContentDescriptor[]): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
}
