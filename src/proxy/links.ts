// Links: which content a repository holds. Content is kept once for all, but read only through a repository that links it.
import { z } from 'zod';
import type { Digest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { remember } from './remember.ts';
import { repositoryKey, type UpstreamRepository } from './upstream-repository.ts';

const linkSchema = z.object({
  /** Of a manifest: the Content-Type it was served with. */
  contentType: z.string().optional(),
  /** Of a blob, in bytes, as the upstream says it. */
  size: z.number().optional(),
});

export type Link = z.infer<typeof linkSchema>;

export interface Links {
  find(origin: UpstreamRepository, digest: Digest): Promise<Link | undefined>;
  /** On a full disk nothing is added, and the upstream is asked again. */
  add(origin: UpstreamRepository, digest: Digest, link?: Link): Promise<void>;
}

export function createLinks(records: RecordStore): Links {
  const links = createCollection({ store: records, name: 'link', schema: linkSchema });
  const keyOf = (origin: UpstreamRepository, digest: Digest) => `${repositoryKey(origin)}@${digest}`;
  return {
    find: (origin, digest) => links.get(keyOf(origin, digest)),
    add: (origin, digest, link = {}) => remember(links.put(keyOf(origin, digest), link)),
  };
}
