// An upstream registry, as used by other rooms, in terms of distribution-spec.
import type { ByteRange } from '../oci/bytes.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { PasswordCredentials } from './auth/credentials.ts';

/** Reads from a registry, at one address or several. */
export type Endpoint = Omit<Upstream, 'isOffline' | 'allows' | 'scope'>;

/**
 * Every call throws RegistryError: the upstream's own code and status where it gave one, 502 for an invalid or broken answer, 504 for a
 * timeout.
 */
export interface Upstream {
  /** The host or alias that names it in references, and the prefix of every key of its stored content. */
  readonly name: string;
  /** The scope to which its content is restricted; undefined where all who may pull share it. */
  readonly scope: Scope | undefined;
  /** Whether it is never contacted: then every call throws UNAVAILABLE. */
  readonly isOffline: boolean;
  /** Whether the configuration allows pulling the repository, even if it is stored. */
  allows(repository: string): boolean;
  /** The target of a tag or digest, without its bytes if possible; `digest` is absent where the upstream does not report it. */
  headManifest(repository: string, reference: string, options?: ManifestOptions): Promise<ManifestHead>;
  /** The bytes, at most MAX_MANIFEST_BYTES; verified when `reference` is a digest or the upstream reports one. */
  getManifest(repository: string, reference: string, options?: ManifestOptions): Promise<ManifestBody>;
  headBlob(repository: string, digest: Digest, options?: CallOptions): Promise<{ readonly size: number | undefined }>;
  /**
   * Not verified: its consumer does that. A broken body is resumed, as long as the upstream allows; otherwise it fails with
   * a RegistryError. The caller reads it to its end or cancels it.
   */
  openBlob(
    repository: string,
    digest: Digest,
    options?: CallOptions & { readonly range?: ByteRange },
  ): Promise<BlobBody>;
  listTags(repository: string, page: TagPage, options?: CallOptions): Promise<TagList>;
  /**
   * The index of referrers as bytes, only those of `artifactType` if given; from the referrers tag where the upstream has no referrers API;
   * undefined when there are none. Throws 502 where they exceed a single index.
   */
  findReferrers(repository: string, digest: Digest, options?: ReferrersOptions): Promise<Uint8Array | undefined>;
}

/** Clients that present the same credentials to an upstream, or none, for a limited time. */
export interface Scope {
  /** Letters, digits, `-` and `_`; reveals nothing about the credentials. Different for each period of the same clients. */
  readonly id: string;
  readonly endsAt: Date;
  /** The same for all periods of the same clients. Only held in memory: it is derived from the credentials. */
  readonly client: string;
}

/** The client's credentials; called only where an upstream receives them. May throw UNAUTHORIZED. */
export type GetCredentials = () => PasswordCredentials | undefined;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface ManifestOptions extends CallOptions {
  /** Media types to accept besides those of images: a registry may withhold others from clients that do not accept them. */
  readonly accept?: readonly string[] | undefined;
}

export interface ReferrersOptions extends CallOptions {
  readonly artifactType?: string | undefined;
}

export interface ManifestHead {
  readonly digest: Digest | undefined;
  readonly contentType: string;
  /** The expected digest, unless the upstream reports another. */
  readonly body?: ManifestBody | undefined;
}

export interface ManifestBody {
  readonly raw: Uint8Array;
  readonly digest: Digest;
  readonly contentType: string;
}

export interface BlobBody {
  readonly body: ReadableStream<Uint8Array>;
  /** The length of `body`; absent where the upstream does not report it. */
  readonly size: number | undefined;
  /** The claimed Content-Encoding, which we do not trust: it may explain wrong bytes. */
  readonly coding?: string | undefined;
}

export interface TagPage {
  readonly n?: number | undefined;
  readonly last?: string | undefined;
  /** The query from the previous page, in place of everything else. */
  readonly next?: string | undefined;
}

export interface TagList {
  readonly tags: readonly string[];
  /** Whether the upstream has more after the last of these. */
  readonly hasMore: boolean;
  /** The query for the next page, unless it follows from the last of these. Printable, without spaces. */
  readonly next?: string | undefined;
}

/** The registries to pull from and push to. */
export interface Upstreams {
  /**
   * The upstream with this host or alias, in any case. Throws DENIED for one that the configuration closes. For an upstream that receives
   * clients' credentials, the client's own view of it; without `getCredentials`, that of an anonymous client. Then it throws what
   * `getCredentials` throws, too.
   */
  get(registry: string, getCredentials?: GetCredentials): Upstream;
  /** The same registry for pushes, which are authorised elsewhere. Throws as `get` does, and UNAVAILABLE where it is offline. */
  getPusher(registry: string): Pusher;
  /** How a program reaches the registry directly. Throws as `getPusher` does, and UNSUPPORTED where its URL has a path. */
  describe(registry: string): RegistryAddress;
  /**
   * Credentials that another program can log in with; undefined if there are none, or only an identity token. With `isRead` nothing is
   * pushed, so the acting caller's own credentials are considered too. Throws as `get` does.
   */
  findCredentials(registry: string, options?: { readonly isRead?: boolean }): Promise<PasswordCredentials | undefined>;
  /**
   * Whether the registry accepts the credentials, which are not stored. Throws as `getPusher` does, RegistryError for an unclear answer, or
   * the signal's reason.
   */
  checkCredentials(registry: string, credentials: PasswordCredentials, signal: AbortSignal): Promise<boolean>;
  /** Whether `component`, the first of a name, names a configured alias or host. */
  has(component: string): boolean;
  /**
   * Opens a layer's http(s) address anonymously, with the same guards. The caller reads the body to its end or cancels it, and verifies it:
   * a known digest allows resuming. Throws UNAVAILABLE where everything is offline.
   */
  openUrl(url: URL, options?: CallOptions & { readonly digest?: Digest | undefined }): Promise<BlobBody>;
  close(): Promise<void>;
}

export interface RegistryAddress {
  /** As in references, with its port: `docker.io` for Docker Hub. */
  readonly host: string;
  /** Whether it uses plain HTTP, or an unverified certificate. */
  readonly isInsecure: boolean;
}

/**
 * Pushes to a registry, distribution-spec "Push". Every call throws RegistryError, like those of Upstream, or the signal's reason. Its
 * requests are authorised to pull and to push.
 */
export interface Pusher {
  /** The host or alias that names the registry in references. */
  readonly name: string;
  hasBlob(repository: string, digest: Digest, options?: PushOptions): Promise<boolean>;
  /** Whether the registry mounted the blob from `from`, another of its repositories; otherwise it has to be uploaded. */
  mountBlob(repository: string, digest: Digest, options: PushOptions & { readonly from: string }): Promise<boolean>;
  /**
   * Uploads the blob, without checking whether it exists. `open` is called for each attempt: a broken upload is restarted as often as a
   * read would be retried. The stream's bytes must be verified by their source; each is read to its end or cancelled.
   */
  putBlob(repository: string, blob: PushedBlob, options?: PushOptions): Promise<void>;
  /** `reference` is a tag or the digest of `raw`. Throws 502 where the registry reports that it stored something else. */
  putManifest(repository: string, manifest: PushedManifest, options?: PushOptions): Promise<void>;
  /** The current target of a tag or digest; undefined where it does not exist. */
  findManifest(repository: string, reference: string, options?: PushOptions): Promise<Digest | undefined>;
}

/** Like those of a call of Upstream. */
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
