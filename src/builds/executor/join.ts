// Parts of one build, from several backends, become one index.
import { digestOf } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { isSamePlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import type { PushedDocument } from '../images.ts';
import type { ContainerFileSpec } from '../spec.ts';
import type { Result } from './result.ts';

/** An index of the parts' images, in the order of the spec's platforms, and of their attestations behind them. */
export function joinParts({ platforms }: ContainerFileSpec, parts: readonly Result[]): Omit<PushedDocument, 'tags'> {
  const images = parts.flatMap(part => part.images);
  const ordered = images.toSorted((a, b) => rankOf(a.platform, platforms) - rankOf(b.platform, platforms));
  const index = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests: [
      ...ordered.map(({ descriptor, platform }) => ({ ...descriptor, platform })),
      ...parts.flatMap(part => part.attestations.map(({ descriptor }) => descriptor)),
    ],
  };
  const raw = new TextEncoder().encode(JSON.stringify(index));
  return { raw, mediaType: mediaTypes.ociIndex, digest: digestOf(raw) };
}

function rankOf(platform: Platform, order: readonly string[]): number {
  return order.findIndex(text => isSamePlatform(parsePlatform(text), platform));
}
