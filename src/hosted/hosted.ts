// Repositories of our own: what is pushed to us, in the words of distribution-spec. The interface that http and proxy work with.
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest, DigestAlgorithm } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import type { ByteRange } from '../oci/range.ts';

/**
 * What a promise that resolves acknowledges is on disk. Every function throws RegistryError for what a client can know of: a full disk is
 * UNAVAILABLE with status 507, and an Error of another kind is a fault of ours. Names and tags of what is written are checked here.
 */
export interface Hosted {
  readonly uploads: Uploads;
  readonly blobs: HostedBlobs;
  readonly manifests: HostedManifests;
  readonly tags: HostedTags;
  /** Manifests whose subject is `digest`, in the order of their digests; empty where there are none, whether the subject is there or not. */
  listReferrers(repository: string, digest: Digest, page: ReferrersPage): Promise<ReferrersList>;
  /**
   * Content was damaged, and is there no more. A manifest that is in memory is written anew; all else is unknown until it is pushed again.
   * Gives the repositories that link it.
   */
  heal(digest: Digest): Promise<{ readonly repositories: readonly string[]; readonly isHealed: boolean }>;
  /** Removes uploads that got no bytes for longer than their time-out. */
  sweep(): Promise<void>;
}

/** distribution-spec "Pushing blobs". A call on an unknown session throws BLOB_UPLOAD_UNKNOWN; calls on one session wait for each other. */
export interface Uploads {
  start(repository: string, options?: { readonly algorithm?: DigestAlgorithm | undefined }): Promise<UploadStatus>;
  get(repository: string, id: string): Promise<UploadStatus>;
  /**
   * Appends `body`; what arrived before it broke (BLOB_UPLOAD_INVALID) stays, so that the client can ask for the status and go on.
   * Throws RANGE_INVALID when `range` does not begin where the upload ends, SIZE_INVALID when the body has another length than `range`.
   * A full disk ends the upload.
   */
  append(repository: string, id: string, chunk: Chunk): Promise<UploadStatus>;
  /**
   * Appends the last chunk, if any, as `append` does, and with its errors; then verifies all, and links the blob. Throws DIGEST_INVALID for
   * other bytes; whatever it throws once all is here, the upload is gone.
   */
  finish(repository: string, id: string, digest: Digest, chunk?: Chunk): Promise<void>;
  cancel(repository: string, id: string): Promise<void>;
}

export interface UploadStatus {
  readonly id: string;
  /** Bytes received: where the next chunk begins. */
  readonly size: number;
}

export interface Chunk {
  /** Read to its end. Where a call throws it may be half read or not at all: it is unlocked, and the caller drains or cancels it. */
  readonly body: ReadableStream<Uint8Array>;
  /** What Content-Range promised; absent for a stream. */
  readonly range?: ByteRange | undefined;
  /** What Content-Length promised: a hint, by which a body that is too large is refused before it is read. */
  readonly size?: number | undefined;
}

export interface HostedBlobs {
  /** The size in bytes. Throws BLOB_UNKNOWN unless this repository links the blob. */
  head(repository: string, digest: Digest): Promise<{ readonly size: number }>;
  get(repository: string, digest: Digest): Promise<HostedBlob>;
  /** Links a blob of `from`, or else of any repository that `isReadable`; false where there is none, and an upload has to follow. */
  mount(repository: string, digest: Digest, source: MountSource): Promise<boolean>;
  /** Unlinks the blob from this repository. Throws UNSUPPORTED while a manifest of the repository refers to it, or where deleting is off. */
  delete(repository: string, digest: Digest): Promise<void>;
}

export interface MountSource {
  readonly from?: string | undefined;
  /** Whether the caller may pull from a repository: a mount must not open what a pull would not. */
  readonly isReadable: (repository: string) => boolean;
}

interface HostedBlob {
  readonly size: number;
  /** The caller reads the stream to its end or cancels it. */
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
}

export interface HostedManifests {
  /** Throws MANIFEST_UNKNOWN, or NAME_UNKNOWN where the repository has nothing at all. */
  get(repository: string, digest: Digest): Promise<Manifest>;
  /**
   * Throws SIZE_INVALID (413) above 4 MiB, TAG_INVALID (414 for more than 50 tags), DIGEST_INVALID, MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN
   * for what has to be pushed before, and DENIED for an immutable tag that is elsewhere.
   */
  put(repository: string, push: ManifestPush): Promise<PushedManifest>;
  /** Removes the manifest and every tag that points to it. Throws DENIED where an immutable tag needs it, UNSUPPORTED where that is off. */
  delete(repository: string, digest: Digest): Promise<void>;
}

/** distribution-spec "Pushing Manifests". */
export interface ManifestPush {
  readonly raw: Uint8Array;
  readonly contentType: string;
  /** What the path promised. */
  readonly digest?: Digest | undefined;
  /** The tag of the path, or the tag parameters beside a digest. */
  readonly tags: readonly string[];
}

export interface PushedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly subject: Digest | undefined;
  /** What it refers to that the repository has not, and need not have. */
  readonly missing: readonly Digest[];
}

export interface HostedTags {
  /** Throws MANIFEST_UNKNOWN, or NAME_UNKNOWN where the repository has nothing at all. */
  resolve(repository: string, tag: string): Promise<Digest>;
  /** In ASCII order, after `last`, at most 10 000 of them. Throws NAME_UNKNOWN where the repository has nothing at all. */
  list(
    repository: string,
    page: { readonly n?: number | undefined; readonly last?: string | undefined },
  ): Promise<{ readonly tags: readonly string[]; readonly hasMore: boolean }>;
  /** Throws as `resolve` does, DENIED for an immutable tag, UNSUPPORTED where deleting tags is off. */
  delete(repository: string, tag: string): Promise<void>;
}

export interface ReferrersPage {
  readonly artifactType?: string | undefined;
  /** Only those after this digest. */
  readonly after?: Digest | undefined;
}

interface ReferrersList {
  readonly descriptors: readonly Descriptor[];
  readonly hasMore: boolean;
}
