// A generated image put through `augment`: what it becomes, as bytes and as JSON.
import { augment } from '../../src/augment/augment.ts';
import { stepsSchema } from '../../src/augment/augmentation.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import type { Compression } from '../../src/oci/media-type.ts';
import { type Content, type GeneratedImage, pack } from '../support/images.ts';
import { placeOnImageAsGiven } from '../support/placing.ts';

export function createLayer(text: string, compression: Compression, platforms?: string[]) {
  const tar = new TextEncoder().encode(text.padEnd(512, '\0'));
  const raw = pack(tar, compression);
  const claims = { digest: digestOf(raw), size: raw.byteLength, diffId: digestOf(tar), compression };
  return { raw, layer: { ...claims, ...(platforms && { platforms }) } };
}

export function readerOf(content: ReadonlyMap<string, Content>) {
  const get = ({ digest }: { readonly digest: string }) => {
    const found = content.get(digest);
    if (!found) throw new Error(`not there: ${digest}`);
    return found;
  };
  return {
    get,
    readManifest: async (descriptor: ContentDescriptor) => {
      const { raw, mediaType } = get(descriptor);
      return parseManifest(raw, mediaType, descriptor.digest);
    },
    readConfig: async (descriptor: ContentDescriptor) => get(descriptor).raw,
  };
}

/** `input` is an augmentation, or a list of steps. */
export async function run(
  image: GeneratedImage,
  input: object | readonly object[],
  layers: readonly Uint8Array[] = [],
) {
  const reader = readerOf(image.content);
  const steps = stepsSchema.parse(Array.isArray(input) ? input : [{ augmentation: input }]);
  const augmented = await augment(await reader.readManifest(image.root), steps, { reader, place: placeOnImageAsGiven });
  const content = new Map(image.content);
  for (const { digest, mediaType, raw } of augmented.documents) content.set(digest, { mediaType, raw });
  for (const raw of layers) content.set(digestOf(raw), { mediaType: '', raw });
  const read = (descriptor: { readonly digest: string }) => readerOf(content).get(descriptor).raw;
  const json = (descriptor: { readonly digest: string }) => JSON.parse(new TextDecoder().decode(read(descriptor)));
  /** The config of the result's first image, or of the one at `i`. */
  const config = (i = 0) => json(json({ digest: augmented.images[i]?.target ?? '' }).config);
  return { ...augmented, read, json, config, rootJson: json(augmented.root) };
}
