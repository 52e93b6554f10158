// The room, put together. Its data is the content directory given, drafts included, and its records; nobody else changes them.
import type { Drafts } from '../content/drafts.ts';
import type { Digest } from '../oci/digest.ts';
import { createBlobs } from './blobs.ts';
import type { Hosted } from './hosted.ts';
import { createManifests } from './manifests.ts';
import { deleteOrphans } from './orphans.ts';
import { createListReferrers } from './referrers.ts';
import type { Room } from './room.ts';
import { createTags } from './tags.ts';
import { createUploads } from './uploads.ts';

export interface HostedParts {
  readonly drafts: Drafts;
  /** All content of the store. */
  readonly listContent: () => AsyncIterable<Digest>;
}

/** Over a room that others work in too, such as the collector. */
export function createHosted(room: Room, { drafts, listContent }: HostedParts): Hosted {
  const { sweep, ...uploads } = createUploads(room, drafts);
  // Only a crash leaves orphans, so one look after a start is enough.
  let mayHaveOrphans = true;
  return {
    uploads,
    blobs: createBlobs(room),
    manifests: createManifests(room),
    tags: createTags(room),
    listReferrers: createListReferrers(room),
    async sweep() {
      await sweep();
      if (!mayHaveOrphans) return;
      await deleteOrphans(room, listContent());
      mayHaveOrphans = false;
    },
  };
}
