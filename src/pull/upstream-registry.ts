// Upstreams as the life of a pull sees them: what they send is kept, and served from there as long as the policies say.

import type { Blobs } from '../cache/read-through/blobs.ts';
import { readConfigBlob, requireSmall } from '../cache/read-through/config-blob.ts';
import type { Tags } from '../cache/read-through/freshness.ts';
import type { Manifests } from '../cache/read-through/manifests.ts';
import type { UpstreamRepository } from '../cache/read-through/upstream-repository.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { Registry } from './registry.ts';

interface UpstreamRegistriesDeps {
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
}

export function createUpstreamRegistries(deps: UpstreamRegistriesDeps): (upstream: Upstream) => Registry {
  const { tags, manifests, blobs } = deps;

  async function readConfig(place: UpstreamRepository, descriptor: ContentDescriptor): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    requireSmall(descriptor);
    // Verified whenever it is read; what is damaged goes, so that the blob is fetched anew.
    const kept = await blobs.readKept(place, digest, size);
    if (kept?.byteLength === size) return kept;
    return readConfigBlob(descriptor, () => blobs.get(place, descriptor.digest)).catch(error => {
      throw error instanceof ContentMismatch ? lie(place, error) : error;
    });
  }

  return upstream => ({
    name: upstream.name,
    scope: upstream.scope?.id,
    isHosted: false,
    resolveTag: (repository, tag, options) => tags.resolve({ upstream, repository }, tag, options),
    getManifest: (repository, digest, options) => manifests.get({ upstream, repository }, digest, options),
    readConfig: (repository, descriptor) => readConfig({ upstream, repository }, descriptor),
    headBlob: (repository, digest) => blobs.head({ upstream, repository }, digest),
    getBlob: (repository, digest, options) => blobs.get({ upstream, repository }, digest, options),
    listTags: upstream.listTags,
    // Upstreams are read to their last page.
    async findReferrers(repository, digest, options) {
      const raw = await upstream.findReferrers(repository, digest, options);
      return raw && { raw };
    },
  });
}

function lie({ upstream, repository }: UpstreamRepository, cause: ContentMismatch): RegistryError {
  return new RegistryError('UNKNOWN', `${upstream.name}: ${repository}/blobs: ${cause.message}`, {
    status: 502,
    cause,
  });
}
