// Links: which content a repository holds. Content is kept once for all, but read only through a repository that links it.
import { z } from 'zod';
import type { Digest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { type Origin, originKey } from './origin.ts';

const linkSchema = z.object({
  /** Of a manifest: the Content-Type it was served with. */
  contentType: z.string().optional(),
});

export type Link = z.infer<typeof linkSchema>;

export interface Links {
  find(origin: Origin, digest: Digest): Promise<Link | undefined>;
  add(origin: Origin, digest: Digest, link?: Link): Promise<void>;
}

export function createLinks(records: RecordStore): Links {
  const links = createCollection({ store: records, name: 'link', schema: linkSchema });
  const keyOf = (origin: Origin, digest: Digest) => `${originKey(origin)}@${digest}`;
  return {
    find: (origin, digest) => links.get(keyOf(origin, digest)),
    add: (origin, digest, link = {}) => links.put(keyOf(origin, digest), link),
  };
}
