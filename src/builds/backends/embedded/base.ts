// The image that a stage starts from or copies from, for the platform, from registries that may hang.
import type { Descriptor } from '../../../oci/descriptor.ts';
import { type Digest, parseDigest } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/errors.ts';
import { parseImageConfig } from '../../../oci/image-config.ts';
import type { ImageManifest } from '../../../oci/manifest.ts';
import { compressionOf, layerType } from '../../../oci/media-type.ts';
import type { Platform } from '../../../oci/platform.ts';
import { createVerifier } from '../../../oci/verify.ts';
import { describeMissingPlatform, findPlatformImage } from '../../bases.ts';
import type { BaseImage, BaseImages } from '../../images.ts';
import { type ImageState, parseState } from './image-config.ts';
import type { Layer } from './layers.ts';
import { InvalidStep } from './step.ts';

interface Base {
  readonly state: ImageState;
  readonly layers: readonly Layer[];
}

/** Throws InvalidStep for an image that does not exist for the platform, and what `images` throws. */
export async function openBase(
  images: BaseImages,
  reference: string,
  {
    platform,
    digest,
  }: {
    readonly platform: Platform;
    /** The digest that the spec pins; undefined: resolved now. */
    readonly digest: Digest | undefined;
  },
): Promise<Base> {
  const image = await openImage(images, reference, digest);
  const manifest = await findImage(image, reference, platform);
  const raw = await image.readConfig(manifest.config);
  const diffIds = parseImageConfig(raw).rootfs.diff_ids ?? [];
  if (diffIds.length !== manifest.layers.length) {
    throw new InvalidStep(
      `${reference} has ${manifest.layers.length} layers in its manifest, but ${diffIds.length} in its config`,
    );
  }
  const layers = manifest.layers.map((descriptor, i) => toLayer(image, descriptor, diffIds[i] ?? ''));
  return { state: parseState(raw), layers };
}

/** The registry's error, with the image's name as in the Containerfile. */
async function openImage(images: BaseImages, reference: string, digest: Digest | undefined): Promise<BaseImage> {
  try {
    return await images.open(reference, digest ?? (await images.resolve(reference)));
  } catch (cause) {
    if (!(cause instanceof RegistryError)) throw cause;
    throw new RegistryError(cause.code, `${reference}: ${cause.message}`, { status: cause.status, cause });
  }
}

async function findImage(image: BaseImage, reference: string, platform: Platform): Promise<ImageManifest> {
  const found = await findPlatformImage(image, platform);
  if (found.manifest) return found.manifest;
  throw new InvalidStep(describeMissingPlatform(reference, platform, found));
}

/** Layers with Docker media types are relabelled as OCI: the bytes are the same. */
function toLayer(image: BaseImage, { mediaType, digest, size }: Descriptor, diffId: string): Layer {
  const compression = compressionOf(mediaType);
  const type = compression && layerType('oci', compression);
  if (!type) throw new InvalidStep(`the base has a layer of type ${JSON.stringify(mediaType)}, which cannot be pushed`);
  return {
    descriptor: { mediaType: type, digest, size },
    diffId: parseDigest(diffId),
    open: async () => verified(await image.openBlob(digest), digest, size),
  };
}

function verified(body: ReadableStream<Uint8Array>, digest: Digest, size: number): ReadableStream<Uint8Array> {
  const verifier = createVerifier({ digest, size });
  return body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        verifier.update(chunk);
        controller.enqueue(chunk);
      },
      flush: () => verifier.finish(),
    }),
  );
}

type Body = ReadableStream<Uint8Array>;

/** Images of registries that may hang. Every function rejects with the signal's reason when that aborts, a body breaks with it, and its source is cancelled. */
export function stoppableImages(images: BaseImages, signal: AbortSignal): BaseImages {
  const stoppable = <T>(work: Promise<T>) => untilAborted(work, signal);
  const ofImage = ({ root, readManifest, readConfig, openBlob }: BaseImage): BaseImage => ({
    root,
    readManifest: descriptor => stoppable(readManifest(descriptor)),
    readConfig: descriptor => stoppable(readConfig(descriptor)),
    openBlob: digest => openBody(openBlob(digest), signal),
  });
  return {
    resolve: reference => stoppable(images.resolve(reference)),
    open: async (reference, digest) => ofImage(await stoppable(images.open(reference, digest))),
  };
}

async function openBody(opening: Promise<Body>, signal: AbortSignal): Promise<Body> {
  try {
    const body = await untilAborted(opening, signal);
    return body.pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), { signal });
  } catch (error) {
    opening.then(body => body.cancel(error)).catch(() => {});
    throw error;
  }
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
