// Pushing to another registry: what the rooms above may ask of it, in the words of distribution-spec "Push".
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';

/**
 * Every call throws RegistryError, as those of Upstream do, or the signal's reason. Its requests are authorised to pull and to push.
 */
export interface Pusher {
  /** The host or alias that names the registry in references. */
  readonly name: string;
  hasBlob(repository: string, digest: Digest, options?: PushOptions): Promise<boolean>;
  /** Whether the registry took the blob over from `from`, another repository of it; else it has to be put. */
  mountBlob(repository: string, digest: Digest, options: MountOptions): Promise<boolean>;
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

interface MountOptions extends PushOptions {
  readonly from: string;
}

export interface PushedBlob extends Pick<ContentDescriptor, 'digest' | 'size'> {
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

interface PushedManifest extends Pick<ContentDescriptor, 'digest' | 'mediaType'> {
  readonly raw: Uint8Array;
  readonly reference: string;
}
