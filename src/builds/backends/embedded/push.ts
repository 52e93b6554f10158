// Pushes built images: blobs first, then manifests, and finally the root with its tag.
import { createDocument, type Document } from '../../../augment/document.ts';
import { toJson } from '../../../augment/json.ts';
import type { Digest } from '../../../oci/digest.ts';
import { mediaTypes } from '../../../oci/media-type.ts';
import type { Platform } from '../../../oci/platform.ts';
import type { Destination } from '../../images.ts';
import { encodeState } from './image-config.ts';
import type { Snapshot } from './stage.ts';

export interface BuiltImage {
  readonly platform: Platform;
  readonly snapshot: Snapshot;
}

interface PushOptions {
  readonly tag: string;
  /** RFC 3339. */
  readonly created: string;
  readonly signal: AbortSignal;
}

/** One image is pushed as it is, several as an index of exactly those. Throws RegistryError, or the signal's reason. */
export async function pushImages(
  destination: Destination,
  images: readonly BuiltImage[],
  options: PushOptions,
): Promise<Digest> {
  const manifests: (Document & { readonly platform: Platform })[] = [];
  for (const image of images)
    manifests.push({ ...(await pushBlobs(destination, image, options)), platform: image.platform });
  const [only] = manifests;
  const isSingle = only !== undefined && manifests.length === 1;
  for (const manifest of isSingle ? [] : manifests) await putDocument(destination, manifest, []);
  const root = isSingle ? only : createDocument(mediaTypes.ociIndex, toJson(indexOf(manifests)));
  options.signal.throwIfAborted();
  await putDocument(destination, root, [options.tag]);
  return root.digest;
}

/** Pushes the parts of the image; returns its manifest. */
async function pushBlobs(
  destination: Destination,
  { platform, snapshot }: BuiltImage,
  options: PushOptions,
): Promise<Document> {
  const { state, layers } = snapshot;
  for (const { descriptor, open } of layers) {
    options.signal.throwIfAborted();
    if (!(await destination.hasBlob(descriptor.digest))) await destination.putBlob(descriptor, open);
  }
  const config = encodeState(state, {
    platform,
    diffIds: layers.map(({ diffId }) => diffId),
    created: options.created,
  });
  await destination.putBlob(config, async () => ReadableStream.from([config.raw]));
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: toDescriptor(config),
    layers: layers.map(({ descriptor }) => toDescriptor(descriptor)),
  };
  return createDocument(mediaTypes.ociManifest, toJson(manifest));
}

function indexOf(manifests: readonly (Document & { readonly platform: Platform })[]) {
  const entries = manifests.map(({ platform, ...manifest }) => ({ ...toDescriptor(manifest), platform }));
  return { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: entries };
}

function toDescriptor({ mediaType, digest, size }: Omit<Document, 'raw'>) {
  return { mediaType, digest, size };
}

async function putDocument(
  destination: Destination,
  { raw, mediaType, digest }: Document,
  tags: readonly string[],
): Promise<void> {
  await destination.putManifest({ raw, mediaType, digest, tags });
}

const EPOCH = 'SOURCE_DATE_EPOCH';

const SECONDS = /^\d{1,11}$/;

/** The build's SOURCE_DATE_EPOCH, in seconds since 1970; else 1970. RFC 3339. https://reproducible-builds.org/specs/source-date-epoch/ */
export function createdAt(args: Readonly<Record<string, string>>): string {
  const given = Object.hasOwn(args, EPOCH) ? (args[EPOCH] ?? '') : '';
  const seconds = SECONDS.test(given) ? Number(given) : 0;
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}
