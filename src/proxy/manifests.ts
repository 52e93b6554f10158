// Manifests of upstream repositories: kept by digest, byte for byte as the upstream has them.
import { LRUCache } from 'lru-cache';
import type { ContentStore } from '../content/store.ts';
import type { Digest } from '../oci/digest.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { createFlight } from './flight.ts';
import type { Links } from './links.ts';
import { type Origin, originKey } from './origin.ts';

export interface Manifests {
  /** From the store if this repository has brought it before, else from the upstream. Throws the upstream's error. */
  get(origin: Origin, digest: Digest): Promise<Manifest>;
  /** Fetches what a tag points to now, and keeps it. */
  fetch(origin: Origin, reference: string): Promise<Manifest>;
}

const MEMORY_BYTES = 64 * 1024 * 1024;

export function createManifests({
  content,
  links,
}: {
  readonly content: ContentStore;
  readonly links: Links;
}): Manifests {
  const flight = createFlight<Manifest>();
  const memory = new LRUCache<string, Manifest>({
    maxSize: MEMORY_BYTES,
    sizeCalculation: manifest => manifest.raw.byteLength || 1,
  });

  async function findKept(origin: Origin, digest: Digest): Promise<Manifest | undefined> {
    const link = await links.find(origin, digest);
    const raw = link?.contentType === undefined ? undefined : await content.read(digest);
    return raw && parseManifest(raw, link?.contentType ?? '');
  }

  async function fetch(origin: Origin, reference: string): Promise<Manifest> {
    const fetched = await origin.upstream.getManifest(origin.repository, reference);
    const manifest = parseManifest(fetched.raw, fetched.contentType);
    await content.put(fetched.raw);
    await links.add(origin, manifest.digest, { contentType: fetched.contentType });
    return manifest;
  }

  return {
    fetch,
    async get(origin, digest) {
      const key = `${originKey(origin)}@${digest}`;
      const inMemory = memory.get(key);
      if (inMemory) return inMemory;
      const manifest = await flight(key, async () => (await findKept(origin, digest)) ?? fetch(origin, digest));
      memory.set(key, manifest);
      return manifest;
    },
  };
}
