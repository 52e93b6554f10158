// Inspection: what a reference is now, as its registry has it; an image with its config, or an index.
import { RegistryError } from '../oci/errors.ts';
import type { ImageIndex, ImageManifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import { chooseImage } from './images.ts';
import { type Origins, resolveReference } from './origin.ts';
import { createReader } from './source-reader.ts';

export type Inspected = { readonly registry: string; readonly repository: string } & (
  | { readonly kind: 'image'; readonly manifest: ImageManifest; readonly config: Uint8Array }
  | { readonly kind: 'index'; readonly manifest: ImageIndex }
);

/**
 * What the reference names, or the image of `platform` in it, however deep its index nests.
 * Throws RegistryError: the upstream's own, MANIFEST_UNKNOWN listing the platforms there are, or MANIFEST_INVALID for no image.
 */
export type Inspect = (reference: Reference, options?: InspectOptions) => Promise<Inspected>;

interface InspectOptions {
  readonly platform?: Platform | undefined;
  readonly signal?: AbortSignal | undefined;
}

export function createInspect(origins: Origins): Inspect {
  return async (reference, { platform, signal } = {}) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const digest = await resolveReference(origin, reference, { signal });
    const root = await origin.registry.getManifest(origin.repository, digest);
    const reader = createReader(origin, { signal });
    const manifest = platform ? await chooseImage(root, platform, reader) : root;
    const place = { registry: origin.registry.name, repository: origin.repository };
    if (manifest.kind === 'index') return { ...place, kind: 'index', manifest };
    if (manifest.kind === 'image') {
      return { ...place, kind: 'image', manifest, config: await reader.readConfig(manifest.config) };
    }
    throw new RegistryError('MANIFEST_INVALID', `cannot be inspected: ${manifest.mediaType} is no image`);
  };
}
