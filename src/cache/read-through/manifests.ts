// Manifests of upstream repositories: cached by digest, byte for byte as received.
import { setImmediate } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { ContentStore } from '../../content/store.ts';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../../oci/manifest.ts';
import type { ManifestBody, ManifestOptions } from '../../upstream/upstream.ts';
import { bestEffort, readCached } from './cached.ts';
import { isStillAccessible, type Link, type Links, repositoryKey, type UpstreamRepository } from './links.ts';
import type { NegativeCache } from './negative-cache.ts';
import type { Turns } from './single-flight.ts';
import { createSingleFlight } from './single-flight.ts';

export interface Manifests {
  /** From the store if this repository has received it before, else from the upstream. Throws the upstream's error. */
  get(origin: UpstreamRepository, digest: Digest, options?: Asking): Promise<Manifest>;
  /** Fetches and caches the current target of a tag. */
  fetch(origin: UpstreamRepository, reference: string, options?: Asking): Promise<Manifest>;
  /** Caches what the upstream has sent. */
  keep(origin: UpstreamRepository, body: ManifestBody): Promise<Manifest>;
}

/** The cached content does not depend on it, but whether an upstream has it may. */
type Asking = Pick<ManifestOptions, 'accept'>;

/** How content was found; coalesced: fetched for an earlier request. */
export type Lookup = 'hit' | 'miss' | 'coalesced';

/** Almost all manifests are far smaller: larger ones are read few at a time, each being sent before the next is read. */
const SMALL_BYTES = 512 * 1024;
const MAX_LARGE = 2;

const askAlways: NegativeCache = (_key, work) => work();

export function createManifests({
  content,
  links,
  memory,
  turns,
  onUsed = () => {},
  onLookup = () => {},
  negativeCache = askAlways,
}: {
  readonly content: ContentStore;
  readonly links: Links;
  readonly memory: Memory;
  /** Where other processes share the content: only one of them fetches a manifest at a time. */
  readonly turns?: Turns | undefined;
  /** Called for each hit in memory. */
  readonly onUsed?: (digest: Digest) => void;
  /** Called for each manifest that is looked up. */
  readonly onLookup?: ((result: Lookup) => void) | undefined;
  /** Default: missing content is asked for each time. */
  readonly negativeCache?: NegativeCache;
}): Manifests {
  const flight = createSingleFlight<{ readonly manifest: Manifest; readonly isCached: boolean }>();
  const parsed = memory.openCache<Manifest>();
  const largeLimit = pLimit(MAX_LARGE);

  async function findCached(origin: UpstreamRepository, digest: Digest): Promise<Manifest | undefined> {
    const link = await links.find(origin, digest);
    return link && readLinked(digest, link);
  }

  async function readLinked(digest: Digest, { contentType, size }: Link): Promise<Manifest | undefined> {
    // Of a blob.
    if (contentType === undefined) return undefined;
    const read = async () => {
      const raw = await readCached(content, digest, Math.min(size, MAX_MANIFEST_BYTES));
      return raw && parseManifest(raw, contentType, digest);
    };
    if (size <= SMALL_BYTES) return read();
    return largeLimit(async () => {
      const manifest = await read();
      await setImmediate();
      return manifest;
    });
  }

  /** Registries count GETs: content that the same clients received before is served again as long as a HEAD allows it. */
  async function findEarlier(
    origin: UpstreamRepository,
    digest: Digest,
    asking?: Asking,
  ): Promise<Manifest | undefined> {
    const { upstream, repository } = origin;
    const link = links.findEarlier(origin, digest);
    const manifest = link && (await readLinked(digest, link));
    if (!manifest || !(await isStillAccessible(() => upstream.headManifest(repository, digest, asking))))
      return undefined;
    await links.add(origin, digest, link);
    return manifest;
  }

  async function fetchInTurn(origin: UpstreamRepository, digest: Digest, asking?: Asking): Promise<Manifest> {
    const end = await turns?.take(`${repositoryKey(origin)}@${digest}`);
    try {
      const stored = end && (await findCached(origin, digest));
      return stored ?? (await fetch(origin, digest, asking));
    } finally {
      end?.();
    }
  }

  async function fetch(origin: UpstreamRepository, reference: string, asking?: Asking): Promise<Manifest> {
    return keep(origin, await origin.upstream.getManifest(origin.repository, reference, asking));
  }

  async function keep(origin: UpstreamRepository, { raw, digest, contentType }: ManifestBody): Promise<Manifest> {
    const manifest = parseManifest(raw, contentType, digest);
    const size = raw.byteLength;
    // Together, which is one wait for the disk: its bytes are received, and a link to what a crash has lost leads to a refetch.
    const stored = bestEffort(content.ingest(ReadableStream.from([raw]), { digest, size }).done);
    await Promise.all([stored, links.add(origin, digest, { contentType, size })]);
    return manifest;
  }

  return {
    fetch,
    keep,
    async get(origin, digest, asking) {
      const key = `${repositoryKey(origin)}@${digest}`;
      const inMemory = parsed.get(key);
      if (inMemory) {
        onUsed(digest);
        onLookup('hit');
        return inMemory;
      }
      // Content that is missing for one Accept header may exist for another.
      const question = [key, ...(asking?.accept ?? [])].join(' ');
      let isOwn = false;
      const { manifest, isCached } = await flight(question, async () => {
        isOwn = true;
        const cached = await findCached(origin, digest);
        if (cached) return { manifest: cached, isCached: true };
        const ask = async () => (await findEarlier(origin, digest, asking)) ?? fetchInTurn(origin, digest, asking);
        return { manifest: await negativeCache(question, ask), isCached: false };
      });
      onLookup(isCached ? 'hit' : isOwn ? 'miss' : 'coalesced');
      parsed.set(key, manifest);
      return manifest;
    },
  };
}
