// The room, put together. Its data is the content directory given, drafts included, and its records; nobody else changes them.
import type { Drafts } from '../content/drafts.ts';
import { createBlobs } from './blobs.ts';
import type { Hosted } from './hosted.ts';
import { createManifests } from './manifests.ts';
import { holdersKey, keysOf } from './records.ts';
import { createListReferrers } from './referrers.ts';
import type { Room } from './room.ts';
import { createTags } from './tags.ts';
import { createUploads } from './uploads.ts';

/** Over a room that others work in too, such as the collector. */
export function createHosted(room: Room, drafts: Drafts): Hosted {
  const { sweep, ...uploads } = createUploads(room, drafts);
  const { heal, ...manifests } = createManifests(room);
  return {
    uploads,
    blobs: createBlobs(room),
    manifests,
    tags: createTags(room),
    listReferrers: createListReferrers(room),
    async heal(digest) {
      const prefix = holdersKey(digest);
      const holders = await Array.fromAsync(keysOf(room.records.holders, prefix));
      const repositories = [...new Set(holders.map(key => key.slice(key.lastIndexOf(' ') + 1)))];
      return { repositories, isHealed: await heal(digest) };
    },
    sweep,
  };
}
