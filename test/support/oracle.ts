// The oracle: recomputes all that an image claims, every digest, size and diffID, from the bytes alone.
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { parseImageConfig } from '../../src/oci/image-config.ts';
import { type ImageManifest, parseManifest } from '../../src/oci/manifest.ts';
import { familyOf } from '../../src/oci/media-type.ts';

/** The bytes of a manifest or blob. Throws when there are none. */
export type Read = (descriptor: ContentDescriptor) => Promise<Uint8Array> | Uint8Array;

/** All images below `root`, checked. Throws on the first thing that is not as it claims to be. */
export async function checkImage(root: ContentDescriptor, read: Read): Promise<readonly ImageManifest[]> {
  const manifest = parseManifest(await readChecked(root, read), root.mediaType);
  if (manifest.kind === 'index') {
    const images = await Promise.all(manifest.manifests.map(entry => checkImage(entry, read)));
    return images.flat();
  }
  if (manifest.kind === 'other') return [];
  await checkLayers(manifest, read);
  return [manifest];
}

async function checkLayers(manifest: ImageManifest, read: Read): Promise<void> {
  const config = parseImageConfig(await readChecked(manifest.config, read));
  const diffIds = await Promise.all(manifest.layers.map(layer => diffIdOf(layer, read)));
  equal(config.rootfs.diff_ids ?? [], diffIds, `diff_ids of ${manifest.digest}`);
  const histories = config.history?.filter(entry => !entry.empty_layer).length ?? diffIds.length;
  equal(histories, diffIds.length, `history entries of ${manifest.digest}`);
  const families = manifest.layers.map(layer => familyOf(layer.mediaType));
  equal(new Set([familyOf(manifest.mediaType), ...families]).size, 1, `families in ${manifest.digest}`);
}

async function diffIdOf(layer: ContentDescriptor, read: Read): Promise<string> {
  const raw = await readChecked(layer, read);
  if (/\.gzip$|\+gzip$/.test(layer.mediaType)) return digestOf(gunzipSync(raw));
  if (/\+zstd$/.test(layer.mediaType)) return digestOf(zstdDecompressSync(raw));
  if (/\.tar$/.test(layer.mediaType)) return digestOf(raw);
  throw new Error(`no layer type: ${layer.mediaType}`);
}

async function readChecked(descriptor: ContentDescriptor, read: Read): Promise<Uint8Array> {
  const raw = await read(descriptor);
  equal(digestOf(raw), descriptor.digest, 'digest');
  equal(raw.byteLength, descriptor.size, `size of ${descriptor.digest}`);
  return raw;
}

function equal(actual: unknown, expected: unknown, what: string): void {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: found ${a}, expected ${b}`);
}
