// The augment API reads images for its caller: it must not open what the same caller could not pull.
import type { Context } from 'hono';
import { parseLocation } from '../augment/location.ts';
import { RegistryError } from '../oci/errors.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import type { Wanted } from '../pull/prepare.ts';
import { requireRight } from './authentication.ts';

type Place = Pick<Reference, 'registry' | 'repository'>;

/** Throws UNAUTHORIZED or DENIED. */
export type RequireSources = (c: Context, places: readonly Place[]) => void;

export function createSourceRights(origins: Origins): RequireSources {
  return (c, places) => {
    for (const place of places) {
      const origin = findOrigin(origins, place);
      if (origin) requireRight(c, 'pull', originName(origin));
    }
  };
}

/** Undefined for a name that leads nowhere: whoever reads from it says so, in the API's words. */
function findOrigin(origins: Origins, { registry, repository }: Place): Origin | undefined {
  try {
    return origins.locate(registry, repository);
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}

/** Every repository that an augmentation reads from. */
export function placesOf({
  reference,
  ...changes
}: Pick<Wanted, 'reference' | 'layers' | 'includes'>): readonly Place[] {
  return [reference, ...placesOfChanges(changes)];
}

/** Those of its layers and includes alone. */
export function placesOfChanges({ includes, layers }: Pick<Wanted, 'layers' | 'includes'>): readonly Place[] {
  const locations = layers.map(({ location }) => parseLocation(location));
  const blobs = locations.flatMap(location => (location.kind === 'blob' ? [location] : []));
  return [...includes.map(parseReference), ...blobs];
}
