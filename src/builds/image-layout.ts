// Writes one image of one platform to a folder, in the format of image-spec "OCI Image Layout", which other programs read without a
// registry and credentials.
import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { ImageManifest } from '../oci/manifest.ts';
import { formatSize } from '../oci/wording.ts';

interface LayoutOptions {
  readonly manifest: ImageManifest;
  readonly openBlob: (digest: Digest) => Promise<ReadableStream<Uint8Array>>;
  /** For config and layers, as stored. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/** The message is safe to show to callers. */
export class InvalidLayout extends Error {
  override readonly name = 'InvalidLayout';
}

/** Throws InvalidLayout, the signal's reason, or what the image's registry throws. */
export async function writeLayout(folder: string, options: LayoutOptions): Promise<void> {
  const { manifest, maxBytes } = options;
  const blobs = new Map([manifest.config, ...manifest.layers].map(blob => [blob.digest, blob]));
  const bytes = blobs.values().reduce((sum, { size }) => sum + size, 0);
  if (bytes > maxBytes)
    throw new InvalidLayout(`the image has ${formatSize(bytes)}, over the limit of ${formatSize(maxBytes)}`);
  const { raw, mediaType, digest } = manifest;
  await putBlob(folder, digest, async file => void (await writeFile(file, raw)));
  for (const blob of blobs.values()) await putBlob(folder, blob.digest, file => download(blob, file, options));
  const manifests = [{ mediaType, digest, size: raw.byteLength }];
  await writeFile(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}

async function putBlob(folder: string, digest: Digest, write: (file: string) => Promise<void>): Promise<void> {
  const kind = join(folder, 'blobs', digestAlgorithm(digest));
  await mkdir(kind, { recursive: true });
  await write(join(kind, digestHex(digest)));
}

/** Content is verified while it is read; no more is written than the descriptor's size. */
async function download(
  { digest, size }: Descriptor,
  file: string,
  { openBlob, signal }: Pick<LayoutOptions, 'openBlob' | 'signal'>,
): Promise<void> {
  let written = 0;
  const limit = async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      written += chunk.byteLength;
      if (written > size) throw new InvalidLayout(`${digest} has more bytes than its manifest says`);
      yield chunk;
    }
  };
  await pipeline(await openBlob(digest), limit, createWriteStream(file), { signal });
}
