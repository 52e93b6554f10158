// What a submit request wants changed in an image, in the words of what prepares it.
import type { Layer } from '../augment/augmentation.ts';
import { InvalidLayer } from '../augment/invalid-layer.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../oci/platform.ts';
import { ContentMismatch } from '../oci/verify.ts';
import type { Wanted } from '../pull/prepare.ts';
import { ApiError } from './api-error.ts';
import type { SubmitRequest } from './augment-schema.ts';
import type { RequestedLayer } from './config-schema.ts';
import { sourceError } from './source-error.ts';

/** Of an image that exists: its platforms are chosen here, too. */
export function toChanges(request: SubmitRequest, attestations: 'drop' | 'keep'): Omit<Wanted, 'reference'> {
  const { layers = [], env, ...config } = request.containerConfig ?? {};
  return {
    layers: layers.map(withOwnPlatform),
    includes: request.containerIncludes,
    changes: {
      ...config,
      ...(env && { env: Object.fromEntries(env.map(splitEnv)) }),
      ...(request.platforms && { platforms: request.platforms.map(formatPlatform) }),
      attestations,
    },
  };
}

/** Clients put the layers of several architectures into one request, and tell them apart by this name alone. */
const ARCHITECTURE_LAYER = /\/fusion-(\w{1,32})\.tar\.gz$/;

/** A layer whose address names an architecture is for that one, unless the request says what it is for. */
function withOwnPlatform(layer: RequestedLayer): RequestedLayer {
  const path = /^https?:/i.test(layer.location) ? URL.parse(layer.location)?.pathname : undefined;
  const architecture = ARCHITECTURE_LAYER.exec(path ?? '')?.[1];
  if (layer.platforms || architecture === undefined) return layer;
  return { ...layer, platforms: [formatPlatform(normalizePlatform({ os: 'linux', architecture }))] };
}

/** Whether it wants the image other than it is. */
export function hasChanges({ containerConfig, containerIncludes }: SubmitRequest): boolean {
  return containerConfig !== undefined || containerIncludes.length > 0;
}

function splitEnv(entry: string): [name: string, value: string] {
  const at = entry.indexOf('=');
  return [entry.slice(0, at), entry.slice(at + 1)];
}

/** The described layers begin with the requested ones, in their order. */
export function checkMediaTypes(requested: readonly RequestedLayer[], described: readonly Layer[]): void {
  for (const [at, { mediaType }] of requested.entries()) {
    const compression = described[at]?.compression;
    if (mediaType === undefined || compressionOf(mediaType) === compression) continue;
    const field = `containerConfig.layers[${at}].mediaType`;
    throw new ApiError(400, `${field}: is ${mediaType}, but the bytes have the compression ${compression}`);
  }
}

/** Whatever keeps an image from being augmented is the request's fault to clients: only 400 is shown to people as it is. */
export function toApiError(error: unknown, image: string): unknown {
  if (error instanceof InvalidLayer) return new ApiError(400, error.message, { cause: error });
  if (error instanceof ContentMismatch) return new ApiError(400, `${image}: ${error.message}`, { cause: error });
  return sourceError(error, image);
}
