// A registry that is not asked: what is stored of it is all there is.
import { RegistryError } from '../oci/errors.ts';
import type { Place } from './upstream.ts';

/** 503, as nobody knows whether the registry has it: what is missing, a recipe would build. */
export function offline(name: string, what: string): RegistryError {
  return new RegistryError(
    'UNAVAILABLE',
    `${name}: ${what}: not stored, and nothing is asked there: it is configured as offline`,
  );
}

/** Every call throws UNAVAILABLE. */
export function createOffline(name: string): Place {
  const refuse = async (what: string): Promise<never> => {
    throw offline(name, what);
  };
  return {
    name,
    headManifest: (repository, reference) => refuse(`${repository}/manifests/${reference}`),
    getManifest: (repository, reference) => refuse(`${repository}/manifests/${reference}`),
    headBlob: (repository, digest) => refuse(`${repository}/blobs/${digest}`),
    openBlob: (repository, digest) => refuse(`${repository}/blobs/${digest}`),
    listTags: repository => refuse(`${repository}/tags/list`),
    findReferrers: (repository, digest) => refuse(`${repository}/referrers/${digest}`),
  };
}
