// A hosted repository as the destination of a push from within.
import type { Hosted } from '../../hosted/hosted.ts';
import { orUndefined } from '../../oci/absence.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import { type Digest, digestAlgorithm } from '../../oci/digest.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import { type Origin, originName } from '../origin.ts';
import type { MountingDestination } from './destination.ts';
import { type Open, pushBody } from './pushed-body.ts';

export function createHostedDestination(
  { uploads, blobs, manifests, tags }: Hosted,
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
      // Where it is gone by itself, there is nothing to cancel.
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
