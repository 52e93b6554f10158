// What the owner of the registry may choose, and where quotas and events hook in.
import type { Digest } from '../oci/digest.ts';
import type { Change } from '../state/store.ts';

export interface HostedOptions {
  /** How long an upload may lie without new bytes. */
  readonly uploadTimeoutMs: number;
  /** How many uploads a repository may have under way; more are TOOMANYREQUESTS. */
  readonly maxUploads: number;
  readonly sparse: Sparse;
  /** What may be deleted by request; the rest is UNSUPPORTED. */
  readonly deletes: { readonly tags: boolean; readonly manifests: boolean; readonly blobs: boolean };
  /** Whether a tag, once it is there, must neither move nor go. */
  readonly isImmutable: (repository: string, tag: string) => boolean;
  readonly quota: Quota;
  /** Told of each change once it is durable, in the order of the changes, and waited for before it is acknowledged. Must not fail. */
  readonly onChange: (change: HostedChange) => unknown;
}

/** What a manifest may refer to that is not there: nothing, an index to manifests, or any manifest to anything. */
type Sparse = 'refuse' | 'indexes' | 'allow';

export interface Quota {
  /** Asked before an upload grows to `size` bytes: as a request promises it, and for each piece that comes in. Throws RegistryError to refuse. */
  admitUpload(repository: string, size: number, id: string): void | Promise<void>;
  /** The upload is over: its bytes are content, or gone. */
  endUpload?(id: string): void;
  /**
   * Asked, one call at a time, when `repository` is about to link content anew, or to unlink it: then `bytes` is negative.
   * Throws RegistryError to refuse. What it returns is written together with the links.
   */
  account(repository: string, digest: Digest, bytes: number): Promise<readonly Change[]>;
}

export interface HostedChange {
  readonly kind: 'push' | 'delete';
  readonly repository: string;
  readonly digest: Digest;
  /** Where a tag was set or removed. */
  readonly tag?: string;
  /** application/octet-stream for a blob. */
  readonly mediaType: string;
  /** In bytes. */
  readonly size: number;
}

export const DEFAULT_OPTIONS: HostedOptions = {
  uploadTimeoutMs: 24 * 3600 * 1000,
  maxUploads: 1_000,
  sparse: 'indexes',
  deletes: { tags: true, manifests: true, blobs: true },
  isImmutable: () => false,
  quota: { admitUpload() {}, account: async () => [] },
  onChange() {},
};
