// One registry that we pull from: what the rooms above may ask of it, in the words of distribution-spec.
import type { ByteRange } from '../oci/bytes.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { PasswordCredentials } from './auth/credentials.ts';

/** What can be read of a registry, at one address or at several. */
export type Endpoint = Omit<Upstream, 'isOffline' | 'allows' | 'scope'>;

/** Every call throws RegistryError: the upstream's own code and status where it gave one, 502 where it lied or broke, 504 where it hung. */
export interface Upstream {
  /** The host or alias that names it in references, and the first part of every key under which its content is kept. */
  readonly name: string;
  /** For whom alone what it opens is; undefined where that is for all who may pull. */
  readonly scope: Scope | undefined;
  /** Whether it is never asked: then every call throws UNAVAILABLE. */
  readonly isOffline: boolean;
  /** Whether the configuration lets the repository be pulled, whatever is stored of it. */
  allows(repository: string): boolean;
  /** What a tag or digest points to, without its bytes where it can be told so; `digest` is absent where the upstream does not say. */
  headManifest(repository: string, reference: string, options?: ManifestOptions): Promise<ManifestHead>;
  /** The bytes, at most MAX_MANIFEST_BYTES; verified when `reference` is a digest or the upstream names one. */
  getManifest(repository: string, reference: string, options?: ManifestOptions): Promise<ManifestBody>;
  headBlob(repository: string, digest: Digest, options?: CallOptions): Promise<{ readonly size: number | undefined }>;
  /**
   * Not verified: who keeps or serves it does that. A body that is cut goes on where it stopped, as long as the upstream allows; else it
   * fails with a RegistryError. The caller reads it to its end or cancels it.
   */
  openBlob(
    repository: string,
    digest: Digest,
    options?: CallOptions & { readonly range?: ByteRange },
  ): Promise<BlobBody>;
  listTags(repository: string, page: TagPage, options?: CallOptions): Promise<TagList>;
  /**
   * The index of referrers as bytes, of those of `artifactType` where it is given; from the referrers tag where the upstream has no
   * referrers API; undefined when there are none. Throws 502 where they are more than one index can hold.
   */
  findReferrers(repository: string, digest: Digest, options?: ReferrersOptions): Promise<Uint8Array | undefined>;
}

/** Clients that show an upstream the same credentials, or none, for some time: then they are asked for them again. */
export interface Scope {
  /** Letters, digits, `-` and `_`; tells nothing of the credentials. No two times of the same clients have the same. */
  readonly id: string;
  readonly endsAt: Date;
  /** The same for all times of the same clients. To be held in memory alone: it is made of what they show. */
  readonly client: string;
}

/** What a client has shown; asked for only where an upstream gets to see it. May throw UNAUTHORIZED. */
export type ShowCredentials = () => PasswordCredentials | undefined;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface ManifestOptions extends CallOptions {
  /** Media types that are asked for beside those of images: a registry may keep others from who does not name them. */
  readonly accept?: readonly string[] | undefined;
}

export interface ReferrersOptions extends CallOptions {
  readonly artifactType?: string | undefined;
}

export interface ManifestHead {
  readonly digest: Digest | undefined;
  readonly contentType: string;
  /** What it points to itself, where the upstream does not answer otherwise. */
  readonly body?: ManifestBody | undefined;
}

export interface ManifestBody {
  readonly raw: Uint8Array;
  readonly digest: Digest;
  readonly contentType: string;
}

export interface BlobBody {
  readonly body: ReadableStream<Uint8Array>;
  /** Bytes in `body`; absent where the upstream did not say. */
  readonly size: number | undefined;
  /** What the upstream says of its coding, which we do not believe: bytes that are not what they ought to be may be encoded by it. */
  readonly coding?: string | undefined;
}

export interface TagPage {
  readonly n?: number | undefined;
  readonly last?: string | undefined;
  /** What the page before said, in place of all else. */
  readonly next?: string | undefined;
}

export interface TagList {
  readonly tags: readonly string[];
  /** Whether the upstream has more after the last of these. */
  readonly hasMore: boolean;
  /** Where its next page is not told by the last of these: what to ask for then. Printable, without a space. */
  readonly next?: string | undefined;
}

/** The registries that may be pulled from and pushed to. */
export interface Upstreams {
  /**
   * The upstream of a registry's host or alias, in any case. Throws DENIED for one that the configuration closes. Where the credentials of
   * clients are passed on, it is as the client sees it; without `show` that is one who shows none. Then it throws what `show` throws, too.
   */
  get(registry: string, show?: ShowCredentials): Upstream;
  /** The same registry, to push to: that we may is its own decision. Throws as `get` does, and UNAVAILABLE where it is offline. */
  getPusher(registry: string): Pusher;
  /** What a program has to know to reach the registry itself. Throws as `getPusher` does, and UNSUPPORTED where its URL has a path. */
  describe(registry: string): RegistryAddress;
  /**
   * What a program can log in with itself; undefined where there is nothing, or only an identity token. `isRead`: nothing is pushed, and the
   * caller's own credentials do. Throws as `get` does.
   */
  findCredentials(registry: string, options?: { readonly isRead?: boolean }): Promise<PasswordCredentials | undefined>;
  /** Whether `component`, the first of a name, names a configured alias or host. */
  has(component: string): boolean;
  /**
   * Opens a layer's http(s) address with no credentials, by the same guards. The caller reads the body to its end or cancels it, and
   * verifies it: the digest, where it is known, helps to go on with what was cut. Throws UNAVAILABLE where all is offline.
   */
  openUrl(url: URL, options?: CallOptions & { readonly digest?: Digest | undefined }): Promise<BlobBody>;
  close(): Promise<void>;
}

export interface RegistryAddress {
  /** As in references, with its port: `docker.io` for Docker Hub. */
  readonly host: string;
  /** Whether it speaks plain HTTP, or has a certificate that nobody checks. */
  readonly isInsecure: boolean;
}

/**
 * What can be pushed to a registry, distribution-spec "Push". Every call throws RegistryError, as those of Upstream do, or the signal's reason. Its requests are authorised to pull and to push.
 */
export interface Pusher {
  /** The host or alias that names the registry in references. */
  readonly name: string;
  hasBlob(repository: string, digest: Digest, options?: PushOptions): Promise<boolean>;
  /** Whether the registry took the blob over from `from`, another repository of it; else it has to be put. */
  mountBlob(repository: string, digest: Digest, options: PushOptions & { readonly from: string }): Promise<boolean>;
  /**
   * Uploads the blob, without a look whether it is there. `open` is called for each time that the bytes are sent: a broken upload begins
   * anew, as often as a read would be tried again. The stream's bytes must be verified by their source; each is read to its end or cancelled.
   */
  putBlob(repository: string, blob: PushedBlob, options?: PushOptions): Promise<void>;
  /** `reference` is a tag or the digest of `raw`. Throws 502 where the registry says that it has stored something else. */
  putManifest(repository: string, manifest: PushedManifest, options?: PushOptions): Promise<void>;
  /** What a tag or digest points to now; undefined where there is nothing. */
  findManifest(repository: string, reference: string, options?: PushOptions): Promise<Digest | undefined>;
}

/** As those of a call of Upstream. */
interface PushOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface PushedBlob extends Pick<ContentDescriptor, 'digest' | 'size'> {
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

interface PushedManifest extends Pick<ContentDescriptor, 'digest' | 'mediaType'> {
  readonly raw: Uint8Array;
  readonly reference: string;
}
