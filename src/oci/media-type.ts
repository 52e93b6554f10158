// Media types of manifests, configs and layers: the OCI and the Docker family.

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
} as const;

/** The family of media types: an image's manifest, config and layers all belong to one. */
export type Family = 'oci' | 'docker';

/** The compression of a layer's tar. */
export type Compression = 'none' | 'gzip' | 'zstd';

/** What we accept from upstreams: everything that an image can be, except schema 1. */
export const ACCEPT_MANIFESTS = [
  mediaTypes.ociIndex,
  mediaTypes.ociManifest,
  mediaTypes.dockerList,
  mediaTypes.dockerManifest,
].join(', ');

const MAX_OTHER_TYPES = 8;

/**
 * The manifest types that an Accept header adds to those that we ask for anyway, in canonical order: some registries withhold what a client
 * does not accept. At most 8; neither schema 1, which old registries would convert to, nor wildcards.
 */
export function otherManifestTypes(accept = ''): readonly string[] {
  const types = accept.split(',', 100).map(part => part.split(';', 1)[0]?.trim().toLowerCase() ?? '');
  const others = types.filter(
    type =>
      /^application\/vnd\.[a-z0-9][a-z0-9.+_-]{0,110}$/.test(type) &&
      !(isIndexType(type) || isManifestType(type) || isSchema1Type(type)),
  );
  return [...new Set(others)].slice(0, MAX_OTHER_TYPES).sort();
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerList;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest;
}

export function isSchema1Type(mediaType: string): boolean {
  return /^application\/vnd\.docker\.distribution\.manifest\.v1\+(json|prettyjws)$/.test(mediaType);
}

/** JSON and JWS: standard and vendor-specific manifest types. Browsers run no document of these. */
const DOCUMENT = /^application\/(?:json|vnd\.[a-z0-9][a-z0-9!#$&^_.-]*\+(?:json|prettyjws))$/i;

/** The type to serve a manifest with: a foreign type may be one that browsers would run. */
export function inertManifestType(mediaType: string): string {
  return DOCUMENT.test(mediaType) ? mediaType : 'application/octet-stream';
}

/** Whether a browser might run or show a document of this type. */
export function isActiveType(mediaType: string): boolean {
  const isShown = /^(?:text|image|audio|video|font|model|multipart|message)\/|xml|html|script|svg|pdf|flash/i;
  return isShown.test(mediaType) && !DOCUMENT.test(mediaType);
}

/** Whether a config of this type describes a runnable image. */
export function isImageConfigType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociConfig || mediaType === mediaTypes.dockerConfig;
}

/** Whether it is a filesystem layer, non-distributable ones included. */
export function isLayerType(mediaType: string): boolean {
  return /^application\/vnd\.(oci|docker)\.image\.(layer|rootfs)\./.test(mediaType);
}

const NONDISTRIBUTABLE = [
  /^application\/vnd\.oci\.image\.layer\.nondistributable\.v1\.tar(\+.*)?$/,
  /^application\/vnd\.docker\.image\.rootfs\.foreign\.diff\.tar(\..*)?$/,
];

/** Whether it is a layer that is fetched from elsewhere, and need not be in its repository. */
export function isNondistributableType(mediaType: string): boolean {
  return NONDISTRIBUTABLE.some(type => type.test(mediaType));
}

/** Generic types: some registries serve every manifest with one of these, and some clients wrote them into descriptors. */
export function isGenericType(mediaType: string): boolean {
  return ['', 'application/json', 'application/octet-stream', 'text/plain', 'text/html'].includes(mediaType);
}

export function familyOf(mediaType: string): Family {
  return mediaType.startsWith('application/vnd.docker.') ? 'docker' : 'oci';
}

const LAYER_TYPES: Record<Family, Partial<Record<Compression, string>>> = {
  oci: {
    none: 'application/vnd.oci.image.layer.v1.tar',
    gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
    zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  },
  docker: {
    none: 'application/vnd.docker.image.rootfs.diff.tar',
    gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
};

/** The layer type in a manifest of `family`; undefined where it has none: Docker's has no zstd. */
export function layerType(family: Family, compression: Compression): string | undefined {
  return LAYER_TYPES[family][compression];
}

/** The compression of a layer of this type; undefined for types that are not distributable filesystem layers. */
export function compressionOf(mediaType: string): Compression | undefined {
  for (const types of Object.values(LAYER_TYPES)) {
    for (const compression of ['none', 'gzip', 'zstd'] as const) {
      if (types[compression] === mediaType) return compression;
    }
  }
  return mediaType === 'application/vnd.docker.image.rootfs.diff.tar.zstd' ? 'zstd' : undefined;
}
