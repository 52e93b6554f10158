// The changes that a submit request makes to an image, and the repositories that they are read from, with the rights to them.
import type { Access, Caller } from '../access/access.ts';
import type { Layer } from '../augment/augmentation.ts';
import { parseLocation } from '../augment/location.ts';
import { RegistryError } from '../oci/errors.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../oci/platform.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import type { Wanted } from '../pull/prepare.ts';
import { ApiError } from './errors.ts';
import type { RequestedLayer, SubmitRequest } from './request.ts';

/** For an existing image, which also selects its platforms. */
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

/** Clients send the layers of several architectures in one request, distinguished only by this name. */
const ARCHITECTURE_LAYER = /\/fusion-(\w{1,32})\.tar\.gz$/;

/** A layer whose address names an architecture is for that one, unless the request specifies its platforms. */
function withOwnPlatform(layer: RequestedLayer): RequestedLayer {
  const architecture = ARCHITECTURE_LAYER.exec(pathOf(layer.location) ?? '')?.[1];
  if (layer.platforms || architecture === undefined) return layer;
  return { ...layer, platforms: [formatPlatform(normalizePlatform({ os: 'linux', architecture }))] };
}

/** As the addresses of Fusion's releases have it: `…/pkg/2/4/8/fusion-amd64.tar.gz`. */
const FUSION_RELEASE = /\/pkg\/(\d{1,6}(?:\/\w{1,16}){1,4})\/fusion-\w{1,32}\.tar\.gz$/;

/** The version of Fusion that a layer adds; undefined where none does, or its address has none. */
export function findFusionVersion({ containerConfig: { layers = [] } = {} }: SubmitRequest): string | undefined {
  const versions = layers.map(({ location }) => FUSION_RELEASE.exec(pathOf(location) ?? '')?.[1]);
  return versions.find(version => version !== undefined)?.replaceAll('/', '.');
}

function pathOf(location: string): string | undefined {
  return /^https?:/i.test(location) ? URL.parse(location)?.pathname : undefined;
}

function splitEnv(entry: string): [name: string, value: string] {
  const at = entry.indexOf('=');
  return [entry.slice(0, at), entry.slice(at + 1)];
}

/** Whether any change is requested. */
export function hasChanges({ containerConfig, containerIncludes }: SubmitRequest): boolean {
  return containerConfig !== undefined || containerIncludes.length > 0;
}

/** The described layers start with the requested ones, in order. Throws ApiError. */
export function checkMediaTypes({ containerConfig }: SubmitRequest, described: readonly Layer[]): void {
  for (const [at, { mediaType }] of (containerConfig?.layers ?? []).entries()) {
    const compression = described[at]?.compression;
    if (mediaType === undefined || compressionOf(mediaType) === compression) continue;
    const field = `containerConfig.layers[${at}].mediaType`;
    throw new ApiError(400, `${field}: is ${mediaType}, but the layer has the compression ${compression}`);
  }
}

/** A repository as named in a request. */
type NamedRepository = Pick<Reference, 'registry' | 'repository'>;

/** Every repository that layers and includes are read from. */
export function repositoriesOf({ includes, layers }: Pick<Wanted, 'layers' | 'includes'>): readonly NamedRepository[] {
  const locations = layers.map(({ location }) => parseLocation(location));
  const blobs = locations.flatMap(location => (location.kind === 'blob' ? [location] : []));
  return [...includes.map(parseReference), ...blobs];
}

// Source rights: the augment API reads images on behalf of its caller, and must not expose what the caller could not pull.

/** Throws UNAUTHORIZED or DENIED unless the caller may pull from each of the repositories. */
export type RequireSources = (caller: Caller, repositories: readonly NamedRepository[]) => void;

export function createSourceRights({
  origins,
  access,
}: {
  readonly origins: Pick<Origins, 'locate'>;
  readonly access: Pick<Access, 'requireRight'>;
}): RequireSources {
  /** Undefined for an unknown name: reading from it reports the error. */
  function findOrigin({ registry, repository }: NamedRepository): Origin | undefined {
    try {
      return origins.locate(registry, repository);
    } catch (error) {
      if (error instanceof RegistryError) return undefined;
      throw error;
    }
  }

  return (caller, repositories) => {
    for (const named of repositories) {
      const origin = findOrigin(named);
      if (origin) access.requireRight(caller, 'pull', originName(origin));
    }
  };
}
