// Image configs are blobs that are read whole, and never larger than their descriptor says.
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_CONFIG_BYTES } from '../../oci/image-config.ts';
import { type Blob, readBlob } from './blobs.ts';

/** Throws MANIFEST_INVALID for a config of another size than its manifest says, or too large; ContentMismatch for other bytes. */
export async function readConfigBlob(
  { digest, size }: ContentDescriptor,
  getBlob: () => Promise<Blob>,
): Promise<Uint8Array> {
  if (size > MAX_CONFIG_BYTES) throw invalid(`${digest} is larger than ${MAX_CONFIG_BYTES} bytes`);
  try {
    const raw = await readBlob(await getBlob(), size);
    if (raw.byteLength === size) return raw;
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
  }
  throw invalid(`${digest} has not the ${size} bytes that its manifest says`);
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid image config: ${reason}`);
}
