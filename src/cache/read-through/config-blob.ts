// Image configs are blobs that are read whole, and never larger than their descriptor says.
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_CONFIG_BYTES } from '../../oci/image-config.ts';
import { type Blob, readBlob } from './blobs.ts';

/** Throws MANIFEST_INVALID for a config of another size than its manifest says, or too large; ContentMismatch for other bytes. */
export async function readConfigBlob(descriptor: ContentDescriptor, getBlob: () => Promise<Blob>): Promise<Uint8Array> {
  requireSmall(descriptor);
  const { digest, size } = descriptor;
  const blob = await getBlob();
  // Of a large blob nothing is opened: to verify what is kept of one costs more than to read the beginning.
  const raw = (blob.size ?? 0) > MAX_CONFIG_BYTES ? undefined : await readWithin(blob, size);
  if (raw?.byteLength === size) return raw;
  throw invalid(`${digest} has not the ${size} bytes that its manifest says`);
}

/** Throws MANIFEST_INVALID for a config that its manifest says to be too large. */
export function requireSmall({ digest, size }: ContentDescriptor): void {
  if (size > MAX_CONFIG_BYTES) throw invalid(`${digest} is larger than ${MAX_CONFIG_BYTES} bytes`);
}

async function readWithin(blob: Blob, maxBytes: number): Promise<Uint8Array | undefined> {
  try {
    return await readBlob(blob, maxBytes);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid image config: ${reason}`);
}
