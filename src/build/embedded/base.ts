// The image that a stage begins with or is read from: the one for the platform.

import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../../oci/image-config.ts';
import type { ImageManifest, Manifest } from '../../oci/manifest.ts';
import { compressionOf, isIndexType, layerType } from '../../oci/media-type.ts';
import { formatPlatform, isSamePlatform, normalizePlatform, type Platform } from '../../oci/platform.ts';
import { createVerifier } from '../../oci/verify.ts';
import type { BaseImage, BaseImages } from '../images.ts';
import { type ImageState, parseState } from './image-state.ts';
import { InvalidStep } from './step.ts';
import type { Layer } from './write-layer.ts';

export interface Base {
  readonly state: ImageState;
  readonly layers: readonly Layer[];
}

export interface BaseOptions {
  readonly platform: Platform;
  /** What the spec says the name is; undefined: it is resolved now. */
  readonly digest: Digest | undefined;
}

const MAX_DEPTH = 4;

/** Throws InvalidStep for an image that is not there for the platform, and what `images` throws. */
export async function openBase(
  images: BaseImages,
  reference: string,
  { platform, digest }: BaseOptions,
): Promise<Base> {
  const image = await openImage(images, reference, digest);
  const manifest = await findImage(image, reference, platform);
  const raw = await image.readConfig(manifest.config);
  const diffIds = parseImageConfig(raw).rootfs.diff_ids ?? [];
  if (diffIds.length !== manifest.layers.length) {
    throw new InvalidStep(`${reference} has ${manifest.layers.length} layers, but names ${diffIds.length}`);
  }
  const layers = manifest.layers.map((descriptor, i) => toLayer(image, descriptor, diffIds[i] ?? ''));
  return { state: parseState(raw), layers };
}

/** The registry's error, with the name that the Containerfile has for the image. */
async function openImage(images: BaseImages, reference: string, digest: Digest | undefined): Promise<BaseImage> {
  try {
    return await images.open(reference, digest ?? (await images.resolve(reference)));
  } catch (cause) {
    if (!(cause instanceof RegistryError)) throw cause;
    throw new RegistryError(cause.code, `${reference}: ${cause.message}`, { status: cause.status, cause });
  }
}

/** Layers of Docker's family become those of OCI's: the bytes are the same. */
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

async function findImage(image: BaseImage, reference: string, platform: Platform): Promise<ImageManifest> {
  const seen = new Set<string>();
  const found = await search(image.root, undefined, 1);
  if (found) return found;
  const there = [...seen].join(', ') || 'no image at all';
  throw new InvalidStep(`${reference} is not there for ${formatPlatform(platform)}; there is ${there}`);

  async function search(
    manifest: Manifest,
    named: Platform | undefined,
    depth: number,
  ): Promise<ImageManifest | undefined> {
    if (manifest.kind === 'index' && depth <= MAX_DEPTH) {
      for (const entry of manifest.manifests) {
        const isOther = entry.platform && !isIndexType(entry.mediaType) && !isWanted(entry.platform);
        const next = isOther ? undefined : await search(await image.readManifest(entry), entry.platform, depth + 1);
        if (next) return next;
      }
    }
    if (manifest.kind !== 'image') return undefined;
    const actual = named ?? configPlatform(parseImageConfig(await image.readConfig(manifest.config)));
    return isWanted(actual) ? manifest : undefined;
  }

  function isWanted(actual: Platform): boolean {
    if (actual.os === 'unknown') return false;
    seen.add(formatPlatform(normalizePlatform(actual)));
    return isSamePlatform(actual, platform);
  }
}
