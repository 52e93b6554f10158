// Hosted repositories as a registry: read where they are, with nothing in between that could be stale.

import { readConfigBlob } from '../cache/read-through/config-blob.ts';
import type { HostedRepositories } from '../hosted/repositories.ts';
import { encodeReferrers } from './referrers-index.ts';
import type { Registry } from './registry.ts';

/** The repositories under a prefix, whose name, without its slash, is what names the registry. */
export function createHostedRegistry(
  { manifests, tags, blobs, listReferrers }: HostedRepositories,
  name: string,
): Registry {
  const full = (repository: string) => `${name}/${repository}`;
  return {
    name,
    scope: undefined,
    isHosted: true,
    resolveTag: (repository, tag) => tags.resolve(full(repository), tag),
    getManifest: (repository, digest) => manifests.get(full(repository), digest),
    readConfig: (repository, descriptor) =>
      readConfigBlob(descriptor, () => blobs.get(full(repository), descriptor.digest)),
    headBlob: (repository, digest) => blobs.head(full(repository), digest),
    getBlob: (repository, digest) => blobs.get(full(repository), digest),
    listTags: (repository, page) => tags.list(full(repository), page),
    async findReferrers(repository, digest, { artifactType, last } = {}) {
      const page = await listReferrers(full(repository), digest, { artifactType, after: last });
      return {
        raw: encodeReferrers(page.descriptors),
        last: page.hasMore ? page.descriptors.at(-1)?.digest : undefined,
      };
    },
  };
}
