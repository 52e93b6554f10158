// One registry in several places: its mirrors are asked first, in order, and what they cannot give comes from the next, last of all from itself.
import { RegistryError } from '../oci/errors.ts';
import type { ByteRange } from '../oci/range.ts';
import { createLies, openFirst } from './mirrored-blob.ts';
import type { CallOptions, Place } from './upstream.ts';

/** Throws what `own` throws. */
export function createMirrored(mirrors: readonly Place[], own: Place): Place {
  if (mirrors.length === 0) return own;
  const lies = createLies();

  async function first<T>(ask: (place: Place) => Promise<T>, { signal }: CallOptions = {}): Promise<T> {
    for (const mirror of mirrors) {
      try {
        return await ask(mirror);
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof RegistryError)) throw error;
      }
    }
    return ask(own);
  }

  return {
    name: own.name,
    headManifest: (repository, reference, options) =>
      first(place => place.headManifest(repository, reference, options), options),
    getManifest: (repository, reference, options) =>
      first(place => place.getManifest(repository, reference, options), options),
    headBlob: (repository, digest, options) => first(place => place.headBlob(repository, digest, options), options),
    listTags: (repository, page, options) => first(place => place.listTags(repository, page, options), options),
    // Mirrors seldom keep them, and that a mirror has none says nothing.
    findReferrers: (repository, digest, options) => own.findReferrers(repository, digest, options),
    openBlob(repository, digest, options = {}) {
      const places = [...mirrors.filter(mirror => !lies.has(mirror, digest)), own];
      const open = (place: Place, range: ByteRange | undefined) =>
        place.openBlob(repository, digest, { ...options, ...(range && { range }) });
      return openFirst(places, { ...options, digest, open, lies });
    },
  };
}
