// Pushing to a registry that speaks distribution-spec over HTTP.

import type { Dispatcher } from 'undici';
import { orUndefined } from '../../oci/absence.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { badAnswer, type RequestContext } from '../failure.ts';
import { createRegistry } from './registry.ts';
import { createWrites, uploadBlob, type Writes, type WritesOptions } from './upload.ts';

export function createPusher(options: WritesOptions): Pusher {
  // A token that may only pull is not given for a repository that is yet to be made.
  const registry = createRegistry({ ...options, actions: 'pull,push' });
  const transport = options.transports.own;

  return {
    name: options.name,

    async hasBlob(repository, digest, options) {
      return (await orUndefined(registry.headBlob(repository, digest, options))) !== undefined;
    },

    async mountBlob(repository, digest, { from, signal }) {
      const writes = createWrites(options, { repository, part: `blobs/${digest}`, from, signal });
      try {
        return await mount(writes, digest, from);
      } catch (error) {
        // Nothing is lost: what keeps it from mounting keeps it from an upload too, or does not matter there.
        if (error instanceof RegistryError) return false;
        throw error;
      }
    },

    async putBlob(repository, blob, { signal } = {}) {
      const writes = createWrites(options, { repository, part: `blobs/${blob.digest}`, signal });
      await uploadBlob({ writes, transport, signal }, blob);
    },

    async putManifest(repository, { reference, digest, mediaType, raw }, { signal } = {}) {
      const part = `manifests/${reference}`;
      const { addressOf, write, attempt } = createWrites(options, { repository, part, signal });
      const headers = { 'content-type': mediaType };
      requireStored(await write(addressOf(part), { method: 'PUT', headers, body: raw }), digest, attempt);
    },

    async findManifest(repository, reference, options) {
      const head = await orUndefined(registry.headManifest(repository, reference, options));
      if (!head || head.digest) return head?.digest;
      return (await orUndefined(registry.getManifest(repository, reference, options)))?.digest;
    },
  };
}

async function mount({ addressOf, write, parseSession }: Writes, digest: Digest, from: string): Promise<boolean> {
  const uploads = addressOf(`blobs/uploads/?${new URLSearchParams({ mount: digest, from })}`);
  const { statusCode, headers } = await write(uploads, { method: 'POST' });
  if (statusCode === 201) return true;
  // An upload has begun in its place, which we do not need.
  await write(parseSession(headers.location, uploads), { method: 'DELETE' });
  return false;
}

// Pushing to another registry: what the rooms above may ask of it, in the words of distribution-spec "Push".

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

// What a registry says that it has stored.

/** Throws 502 where the answer to a push names other bytes. A digest of another algorithm may be of the same ones. */
export function requireStored({ headers }: Dispatcher.ResponseData, digest: Digest, attempt: RequestContext): void {
  const named = headers['docker-content-digest'];
  if (typeof named !== 'string' || !isDigest(named) || digestAlgorithm(named) !== digestAlgorithm(digest)) return;
  if (named !== digest) throw badAnswer(attempt, `it has stored ${named} instead of ${digest}`);
}
