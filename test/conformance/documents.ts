// Content as a client pushes it: blobs and manifests with their digests, composed from names, so that equal names give equal bytes.
import { gzipSync } from 'node:zlib';
import { type Digest, type DigestAlgorithm, digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';

export const EMPTY = 'application/vnd.oci.empty.v1+json';
export const LAYER = 'application/vnd.oci.image.layer.v1.tar';

export interface Content {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly raw: Uint8Array;
}

export interface ImageOptions {
  readonly layers?: readonly Content[];
  readonly config?: Content;
  /** Merged into the manifest. */
  readonly fields?: object;
  /** Merged into each of its descriptors. */
  readonly describe?: (content: Content) => object;
  readonly algorithm?: DigestAlgorithm;
}

export function makeContent(raw: Uint8Array | string, mediaType: string, algorithm?: DigestAlgorithm): Content {
  const bytes = Buffer.from(raw);
  return { mediaType, digest: digestOf(bytes, algorithm), size: bytes.byteLength, raw: bytes };
}

export function makeLayer(name: string, { isPacked = true, algorithm }: LayerOptions = {}): Content {
  const bytes = Buffer.from(`layer ${name} `.repeat(100));
  return isPacked ? makeContent(gzipSync(bytes), `${LAYER}+gzip`, algorithm) : makeContent(bytes, LAYER, algorithm);
}

interface LayerOptions {
  readonly isPacked?: boolean;
  readonly algorithm?: DigestAlgorithm | undefined;
}

function makeConfig(name: string, algorithm?: DigestAlgorithm): Content {
  return makeContent(JSON.stringify({ os: 'linux', architecture: 'amd64', name }), mediaTypes.ociConfig, algorithm);
}

/** An image manifest of two layers, where `options` say nothing else. */
export function makeImage(name: string, options: ImageOptions = {}): Content {
  const { config, layers } = partsOf(name, options);
  const describe = (content: Content) => ({ ...descriptorOf(content), ...options.describe?.(content) });
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: describe(config),
    layers: layers.map(describe),
    ...options.fields,
  };
  return makeContent(JSON.stringify(manifest), mediaTypes.ociManifest, options.algorithm);
}

/** The blobs that `makeImage` of the same arguments refers to. */
export function partsOf(name: string, { config, layers, algorithm }: ImageOptions = {}) {
  return {
    config: config ?? makeConfig(name, algorithm),
    layers: layers ?? [`${name} 0`, `${name} 1`].map(each => makeLayer(each, { algorithm })),
  };
}

export function makeIndex(entries: readonly object[], fields: object = {}, algorithm?: DigestAlgorithm): Content {
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: entries, ...fields };
  return makeContent(JSON.stringify(index), mediaTypes.ociIndex, algorithm);
}

export function descriptorOf({ mediaType, digest, size }: Content) {
  return { mediaType, digest, size };
}
