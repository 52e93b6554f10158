// A repository of another registry as the destination of a push: asked itself, for what is kept of it may be older.

import type { Digest } from '../../oci/digest.ts';
import type { Pusher } from '../../upstream/pusher.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import { type Origin, originName } from '../origin.ts';
import type { MountingDestination } from './destination.ts';
import { pushBody } from './pushed-body.ts';

export function createUpstreamDestination(pusher: Pusher, origin: Origin, options: CallOptions): MountingDestination {
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
