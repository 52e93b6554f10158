// The index that the referrers API answers with. distribution-spec "Listing Referrers".
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { mediaTypes } from '../oci/media-type.ts';

export function encodeReferrers(manifests: readonly ContentDescriptor[]): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
}
