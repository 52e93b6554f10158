// One registry in several places: its mirrors are asked first, in order, and what they cannot give comes from the next, last of all from itself.
import type { Memory } from '../memory.ts';
import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { parseManifest } from '../oci/manifest.ts';
import { isIndexType, isManifestType } from '../oci/media-type.ts';
import type { ByteRange } from '../oci/range.ts';
import { createLies, openFirst } from './mirrored-blob.ts';
import type { CallOptions, ManifestBody, ManifestHead, Place } from './upstream.ts';

/** Throws what `own` throws. */
export function createMirrored(mirrors: readonly Place[], own: Place, memory: Memory): Place {
  if (mirrors.length === 0) return own;
  const lies = createLies(memory);

  async function first<T>(
    ask: (place: Place) => Promise<T>,
    { signal }: CallOptions = {},
    check: (answer: T) => unknown = () => {},
  ): Promise<T> {
    for (const mirror of mirrors) {
      try {
        const answer = await ask(mirror);
        check(answer);
        return answer;
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
      first(place => place.headManifest(repository, reference, options), options, requireNamed),
    getManifest: (repository, reference, options) =>
      // What is named by its digest is verified by that.
      first(
        place => place.getManifest(repository, reference, options),
        options,
        isDigest(reference) ? undefined : requireManifest,
      ),
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

/** Throws MANIFEST_INVALID for the page of a portal, or of whatever else answers every request. */
function requireManifest({ raw, contentType, digest }: ManifestBody): void {
  requireNamed({ digest: undefined, contentType: parseManifest(raw, contentType, digest).mediaType });
}

function requireNamed({ digest, contentType }: ManifestHead): void {
  if (digest !== undefined || isIndexType(contentType) || isManifestType(contentType)) return;
  throw new RegistryError('MANIFEST_INVALID', `it is ${contentType || 'of no type'}, and has no digest`);
}
