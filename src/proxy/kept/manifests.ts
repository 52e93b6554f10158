// Manifests of upstream repositories: kept by digest, byte for byte as the upstream has them.
import { LRUCache } from 'lru-cache';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { type Manifest, parseManifest } from '../../oci/manifest.ts';
import { isIndexType, isManifestType } from '../../oci/media-type.ts';
import { createFlight } from '../flight.ts';
import { remember } from '../remember.ts';
import type { UnlessAbsent } from './absences.ts';
import { readKept } from './kept.ts';
import type { Links } from './links.ts';
import { repositoryKey, type UpstreamRepository } from './upstream-repository.ts';

export interface Manifests {
  /** From the store if this repository has brought it before, else from the upstream. Throws the upstream's error. */
  get(origin: UpstreamRepository, digest: Digest): Promise<Manifest>;
  /** Fetches what a tag points to now, and keeps it. */
  fetch(origin: UpstreamRepository, reference: string): Promise<Manifest>;
}

const MEMORY_BYTES = 64 * 1024 * 1024;

export interface ManifestsDeps {
  readonly content: ContentStore;
  readonly links: Links;
  /** Hears of each use of what is in memory. */
  readonly onUsed?: (digest: Digest) => void;
  /** Default: what an upstream has not is asked for each time. */
  readonly unlessAbsent?: UnlessAbsent;
}

const askAlways: UnlessAbsent = (_key, work) => work();

export function createManifests({
  content,
  links,
  onUsed = () => {},
  unlessAbsent = askAlways,
}: ManifestsDeps): Manifests {
  const flight = createFlight<Manifest>();
  const memory = new LRUCache<string, Manifest>({
    maxSize: MEMORY_BYTES,
    sizeCalculation: manifest => manifest.raw.byteLength || 1,
  });

  async function findKept(origin: UpstreamRepository, digest: Digest): Promise<Manifest | undefined> {
    const { contentType } = (await links.find(origin, digest)) ?? {};
    if (contentType === undefined) return undefined;
    const raw = await readKept(content, digest);
    return raw && parseManifest(raw, contentType, digest);
  }

  /** What the same upstream sent for others is told by a HEAD to be this one's, too: registries count what is got. */
  async function findShared(origin: UpstreamRepository, digest: Digest): Promise<Manifest | undefined> {
    const { upstream, repository } = origin;
    if (!upstream.scope || !(await links.isFrom(upstream.name, digest))) return undefined;
    const raw = await readKept(content, digest);
    if (!raw) return undefined;
    const { contentType } = await upstream.headManifest(repository, digest);
    if (!isIndexType(contentType) && !isManifestType(contentType)) return undefined;
    await links.add(origin, digest, { contentType });
    return parseManifest(raw, contentType, digest);
  }

  async function fetch(origin: UpstreamRepository, reference: string): Promise<Manifest> {
    const { raw, digest, contentType } = await origin.upstream.getManifest(origin.repository, reference);
    const manifest = parseManifest(raw, contentType, digest);
    await remember(content.ingest(ReadableStream.from([raw]), { digest, size: raw.byteLength }).done);
    await links.add(origin, digest, { contentType });
    return manifest;
  }

  return {
    fetch,
    async get(origin, digest) {
      const key = `${repositoryKey(origin)}@${digest}`;
      const inMemory = memory.get(key);
      if (inMemory) onUsed(digest);
      if (inMemory) return inMemory;
      const manifest = await flight(
        key,
        async () =>
          (await findKept(origin, digest)) ??
          unlessAbsent(key, async () => (await findShared(origin, digest)) ?? fetch(origin, digest)),
      );
      memory.set(key, manifest);
      return manifest;
    },
  };
}
