// The registries that names refer to. Each is a stack whose layers ask the one below for what they do not have. From the network to the client:
//
//   upstream/upstreams.ts    requests, credentials, limits and mirrors      hosted/   what was pushed to Veneer
//   createCachedRegistries   what the upstream has sent before
//   createShadowedRegistry   images that recipes built for its names
//   withRecipes              missing tags are built                         withRecipes
//
// On top, http/distribution/admission.ts adds what the caller may see: the image of a token, the images as rules derive them, or, for a build
// of our own, the registry as it is.
import type { Blobs } from '../cache/read-through/blobs.ts';
import { readConfigBlob, requireSmallConfig } from '../cache/read-through/cached.ts';
import type { UpstreamRepository } from '../cache/read-through/links.ts';
import type { Manifests } from '../cache/read-through/manifests.ts';
import type { Tags } from '../cache/read-through/tags.ts';
import type { HostedRepositories } from '../hosted/repositories.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { Origin, Registries } from './origin.ts';
import type { WithRecipes } from './recipes/recipe-registry.ts';
import { createShadowedRegistry, type Shadow, shadowName } from './recipes/recipe-registry.ts';
import { encodeReferrers, type Registry } from './registry.ts';

/** Builds missing images. */
export interface RecipeLayer {
  readonly withRecipes: WithRecipes;
  /** Whether a recipe matches some tag of the repository, given by its full name. */
  covers(repository: string): boolean;
  /** Whether a recipe built this digest for the image, given by its full name with the tag. */
  wasBuilt(image: string, digest: Digest): Promise<boolean>;
  /** The full name of the repository that contains images built for upstreams' names. */
  readonly repository: string;
}

export function createRegistries({
  hosted,
  recipes,
  ...cache
}: {
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
  /** By name: without dots and colons, possibly with slashes. */
  readonly hosted: ReadonlyMap<string, Registry>;
  /** Absent: no pull starts a build. */
  readonly recipes?: RecipeLayer | undefined;
}): Registries {
  const cachedOf = createCachedRegistries(cache);
  return {
    hosted: [...hosted.keys()],
    findHosted(name) {
      const registry = hosted.get(name);
      return registry && (recipes ? recipes.withRecipes(registry, own => `${name}/${own}`) : registry);
    },
    ofUpstream(upstream, locateName) {
      const cached = cachedOf(upstream);
      if (!recipes) return cached;
      const shadowOf = (own: string) => shadowName(recipes.repository, upstream.name, own);
      const shadowed = createShadowedRegistry(cached, own => {
        const name = `${upstream.name}/${own}`;
        return recipes.covers(name) ? createShadow(recipes, name, locateName(shadowOf(own))) : undefined;
      });
      return recipes.withRecipes(shadowed, shadowOf);
    },
  };
}

/** `name` is the full name of the upstream's repository. */
function createShadow({ wasBuilt }: RecipeLayer, name: string, origin: Origin): Shadow {
  return { ...origin, wasBuilt: (tag, digest) => wasBuilt(`${name}:${tag}`, digest) };
}

export function createCachedRegistries(deps: {
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
}): (upstream: Upstream) => Registry {
  const { tags, manifests, blobs } = deps;

  async function readConfig(origin: UpstreamRepository, descriptor: ContentDescriptor): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    requireSmallConfig(descriptor);
    // Verified on each read; a damaged blob is dropped, so that it is refetched.
    const cached = await blobs.readCached(origin, digest, size);
    if (cached?.byteLength === size) return cached;
    return readConfigBlob(descriptor, () => blobs.get(origin, descriptor.digest)).catch(error => {
      throw error instanceof ContentMismatch ? mismatchError(origin, error) : error;
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
    // All pages of an upstream are read.
    async findReferrers(repository, digest, options) {
      const raw = await upstream.findReferrers(repository, digest, options);
      return raw && { raw };
    },
  });
}

function mismatchError({ upstream, repository }: UpstreamRepository, cause: ContentMismatch): RegistryError {
  return new RegistryError('UNKNOWN', `${upstream.name}: ${repository}/blobs: ${cause.message}`, {
    status: 502,
    cause,
  });
}

/** The repositories under a prefix; the prefix without its slash is the name of the registry. */
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
