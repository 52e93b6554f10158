// How the parts of what is rewritten are had.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Manifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';

/** Fetches what an index or manifest points to; throws RegistryError when it cannot be had. */
export interface SourceReader {
  readManifest(descriptor: ContentDescriptor): Promise<Manifest>;
  readConfig(descriptor: ContentDescriptor): Promise<Uint8Array>;
}

/** Attestations are filed under this platform, so that no client runs them. */
export function isUnknownPlatform({ os, architecture }: Platform): boolean {
  return os === 'unknown' && architecture === 'unknown';
}
