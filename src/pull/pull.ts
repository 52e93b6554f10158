// Pulls a manifest: selects the manifest that a reference gives the client.
import { parseManifest } from '../oci/manifest.ts';
import { isIndexType, mediaTypes } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import { parseTagOrDigest } from '../oci/reference.ts';
import type { CallOptions } from '../upstream/upstream.ts';
import type { AugmentedRegistry, ServedManifest } from './augmented-registry.ts';
import { chooseImage } from './images.ts';
import type { Origin } from './origin.ts';

/** The result of admission: an origin as visible to the client. */
export interface Pull extends Origin {
  readonly registry: AugmentedRegistry;
}

const DEFAULT_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

/** Throws RegistryError. */
export async function pullManifest(
  { registry, repository }: Pull,
  reference: string,
  {
    acceptsIndex,
    ...options
  }: CallOptions & {
    /** False for old clients: a tag then gives the image of the default platform. */
    readonly acceptsIndex: boolean;
    /** Manifest types that the client accepts besides those of images. */
    readonly accept?: readonly string[];
  },
): Promise<ServedManifest> {
  const { signal } = options;
  signal?.throwIfAborted();
  const parsed = parseTagOrDigest(reference);
  if ('digest' in parsed) return registry.getManifest(repository, parsed.digest, options);
  const served = await registry.getTag(repository, parsed.tag, options);
  if (acceptsIndex) return served;
  const manifest = parseManifest(served.raw, served.mediaType, served.digest);
  if (manifest.kind !== 'index') return served;
  return chooseImage(manifest, DEFAULT_PLATFORM, {
    async readManifest({ digest }) {
      signal?.throwIfAborted();
      return registry.getManifest(repository, digest);
    },
    readConfig: descriptor => registry.readConfig(repository, descriptor),
  });
}

/** Whether a client with these Accept headers accepts an index. None, or a wildcard, accepts all. */
export function acceptsIndex(accept: string | undefined): boolean {
  if (!accept) return true;
  const types = accept.split(',').map(part => part.split(';', 1)[0]?.trim().toLowerCase() ?? '');
  return (
    types.some(type => isIndexType(type) || type === '*/*' || type === 'application/*') || !types.some(isImageType)
  );
}

function isImageType(type: string): boolean {
  return type === mediaTypes.ociManifest || type === mediaTypes.dockerManifest;
}
