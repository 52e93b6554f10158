// A registry behind its gate.
import type { Gate } from './gate.ts';
import type { Place } from './upstream.ts';

/** The same registry; every call goes through the gate, and throws what that throws too. */
export function createGated(place: Place, gate: Pick<Gate, 'run' | 'open'>): Place {
  return {
    name: place.name,
    headManifest: (repository, reference, options) =>
      gate.run('other', () => place.headManifest(repository, reference, options), options),
    getManifest: (repository, reference, options) =>
      gate.run('manifest', () => place.getManifest(repository, reference, options), options),
    headBlob: (repository, digest, options) =>
      gate.run('other', () => place.headBlob(repository, digest, options), options),
    openBlob: (repository, digest, options) => gate.open(() => place.openBlob(repository, digest, options), options),
    listTags: (repository, page, options) =>
      gate.run('other', () => place.listTags(repository, page, options), options),
    findReferrers: (repository, digest, options) =>
      gate.run('other', () => place.findReferrers(repository, digest, options), options),
  };
}
