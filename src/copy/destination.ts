// Destinations: resolves a name to push to, hosted here or in another registry.
import type { Destination } from '../builds/images.ts';
import { passThrough } from '../cache/read-through/transfers.ts';
import type { HostedRepositories } from '../hosted/repositories.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm } from '../oci/digest.ts';
import { orUndefined, RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import type { CallOptions, PushedBlob, Pusher, Upstreams } from '../upstream/upstream.ts';

/** A destination that can mount blobs which its own registry already has. */
export interface MountingDestination extends Destination {
  /** `from`: the repository of the blob, used for a mount if it is in the same registry. */
  putBlob(blob: ContentDescriptor, open: Open, options?: { readonly from?: Origin | undefined }): Promise<void>;
}

/** The signal ends pushes in progress, with its reason. */
export type OpenMountingDestination = (repository: string, options?: CallOptions) => MountingDestination;

export function createDestinations({
  origins,
  upstreams,
  hosted,
}: {
  readonly origins: Pick<Origins, 'locateName'>;
  readonly upstreams: Pick<Upstreams, 'getPusher'>;
  readonly hosted: HostedRepositories;
}): OpenMountingDestination {
  return (name, options = {}) => {
    const origin = origins.locateName(name);
    if (origin.registry.isHosted) return createHostedDestination(hosted, originName(origin), options);
    return createUpstreamDestination(upstreams.getPusher(origin.registry.name), origin, options);
  };
}

/** A hosted repository. */
function createHostedDestination(
  { uploads, blobs, manifests, tags }: HostedRepositories,
  repository: string,
  { signal }: CallOptions,
): MountingDestination {
  async function hasBlob(digest: Digest): Promise<boolean> {
    return (await orUndefined(blobs.head(repository, digest))) !== undefined;
  }

  async function mount(digest: Digest, from: Origin | undefined): Promise<boolean> {
    if (!from?.registry.isHosted) return false;
    const name = originName(from);
    return blobs.mount(repository, digest, { from: name, isReadable: candidate => candidate === name });
  }

  async function upload({ digest }: ContentDescriptor, open: Open): Promise<void> {
    const { id } = await uploads.start(repository, { algorithm: digestAlgorithm(digest) });
    try {
      const body = await open();
      await uploads.finish(repository, id, digest, { body }).catch(async error => {
        await body.cancel().catch(() => {});
        throw error;
      });
    } catch (error) {
      // If it is already closed, there is nothing to cancel.
      await uploads.cancel(repository, id).catch(() => {});
      throw error;
    }
  }

  return {
    repository,
    async hasBlob(digest) {
      signal?.throwIfAborted();
      return hasBlob(digest);
    },
    async putBlob(blob, open, { from } = {}) {
      signal?.throwIfAborted();
      if ((await hasBlob(blob.digest)) || (await mount(blob.digest, from))) return;
      await pushBody(blob, open, reopen => upload(blob, reopen));
    },
    async putManifest({ raw, mediaType, digest, tags }) {
      signal?.throwIfAborted();
      await manifests.put(repository, { raw, contentType: mediaType, digest, tags });
    },
    findTag: tag => orUndefined(tags.resolve(repository, tag)),
  };
}

/** A repository of another registry: asked directly, since cached data may be older. */
function createUpstreamDestination(pusher: Pusher, origin: Origin, options: CallOptions): MountingDestination {
  const { repository } = origin;

  async function mount(digest: Digest, from: Origin | undefined): Promise<boolean> {
    if (from?.registry.name !== pusher.name || from.repository === repository) return false;
    return pusher.mountBlob(repository, digest, { from: from.repository, ...options });
  }

  return {
    repository: originName(origin),
    hasBlob: digest => pusher.hasBlob(repository, digest, options),
    async putBlob({ digest, size, ...rest }, open, { from } = {}) {
      if ((await pusher.hasBlob(repository, digest, options)) || (await mount(digest, from))) return;
      await pushBody({ digest, size }, open, reopen =>
        pusher.putBlob(repository, { ...rest, digest, size, open: reopen }, options),
      );
    },
    async putManifest({ raw, mediaType, digest, tags }) {
      for (const reference of tags.length > 0 ? tags : [digest]) {
        await pusher.putManifest(repository, { reference, raw, mediaType, digest }, options);
      }
    },
    findTag: tag => pusher.findManifest(repository, tag, options),
  };
}

// The body of a blob on its way into a repository: verified, with its failure recorded, since the receiver only sees that it broke.

type Open = PushedBlob['open'];

/**
 * Runs `push` with a body that can be reopened. If the source of the bytes failed, throws its error, or DIGEST_INVALID for bytes that do
 * not match the descriptor; otherwise what `push` throws.
 */
async function pushBody(
  { digest, size }: Pick<ContentDescriptor, 'digest' | 'size'>,
  open: Open,
  push: (open: Open) => Promise<void>,
): Promise<void> {
  let failed: { readonly cause: unknown } | undefined;
  const noting = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      failed = { cause };
      throw cause;
    }
  };
  try {
    await push(async () => {
      failed = undefined;
      const source = passThrough(await noting(open), { digest, size });
      return noteFailure(source, noting);
    });
  } catch (error) {
    throw failed ? asRegistryError(failed.cause) : error;
  }
}

function noteFailure(
  source: ReadableStream<Uint8Array>,
  noting: <T>(work: () => Promise<T>) => Promise<T>,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await noting(() => reader.read());
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: reason => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

function asRegistryError(cause: unknown): unknown {
  if (!(cause instanceof ContentMismatch)) return cause;
  return new RegistryError('DIGEST_INVALID', `the blob does not match its digest: ${cause.message}`, { cause });
}
