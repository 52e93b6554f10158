// Several processes with the same records: what one of them has asked an upstream holds for all of them, and what it has fetched, where they
// share a store.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createBlobs } from '../../../src/cache/read-through/blobs.ts';
import { createLinks, createSharedLinks, isAway } from '../../../src/cache/read-through/links.ts';
import { createManifests } from '../../../src/cache/read-through/manifests.ts';
import { createSharedContent } from '../../../src/cache/read-through/shared-content.ts';
import { createTurns } from '../../../src/cache/read-through/single-flight.ts';
import { createTags } from '../../../src/cache/read-through/tags.ts';
import { createDiskStore, type DiskStore } from '../../../src/content/disk.ts';
import type { VerifiedFile } from '../../../src/content/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { createCachedRegistries } from '../../../src/pull/registries.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { createSharedLocks } from '../../../src/state/locks.ts';
import { type RecordStore, RecordStoreAway } from '../../../src/state/store.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { PATIENT } from '../../support/patience.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';

const MINUTE = 60_000;
const [old, moved] = ['old', 'moved'].map(name =>
  Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [], annotations: { name } }),
  ),
) as [Buffer, Buffer];

let registry: TestRegistry;
let records: RecordStore;
let nowMs: number;
let sharedDirectory: string;
let sharedStore: DiskStore;
/** Called before each use of the shared store. */
let useShared: () => void | Promise<void>;

beforeEach(async () => {
  sharedDirectory = await mkdtemp(join(tmpdir(), 'veneer-fleet-shared-'));
  sharedStore = await createDiskStore({ directory: sharedDirectory });
  useShared = () => {};
  nowMs = Date.UTC(2030, 0, 1);
  registry = await startRegistry();
  const store = createMemoryStore({ now: () => new Date(nowMs) });
  records = { ...store, locks: createSharedLocks({ store, pollMs: 10 }) };
});

afterEach(async () => {
  await registry.close();
  await sharedStore.close();
  await rm(sharedDirectory, { recursive: true });
});

const shared: Parameters<typeof createSharedContent>[0]['shared'] = {
  async find(digest) {
    await useShared();
    return sharedStore.find(digest);
  },
  async open(digest, range) {
    await useShared();
    return sharedStore.open(digest, range);
  },
  async read(digest, maxBytes) {
    await useShared();
    return sharedStore.read(digest, maxBytes);
  },
  async locate(digest) {
    await useShared();
    return (await sharedStore.find(digest)) && `https://s3.example/${digest}`;
  },
  ingest: (...content) => sharedStore.ingest(...content),
  async store({ path }: VerifiedFile) {
    await useShared();
    await sharedStore.put(await readFile(path));
  },
};

/** `aheadMs`: of its clock; `waitMs`: how long it waits for its turn; `sharedWaitMs`: for the shared store. */
async function createReplica({ aheadMs = 0, waitMs = MINUTE, sharedWaitMs = MINUTE } = {}): Promise<Registry> {
  const now = () => new Date(nowMs + aheadMs);
  const memory = createMemory();
  const directory = await mkdtemp(join(tmpdir(), 'veneer-fleet-'));
  const cache = await createDiskStore({ directory });
  const content = createSharedContent({ cache, shared, onFailed: () => {}, waitMs: sharedWaitMs });
  const upstreams = createUpstreams({
    memory,
    entries: { lab: { url: registry.url } },
    openUpstreams: false,
    allowPrivateUrls: false,
    timeouts: PATIENT,
    retries: 0,
  });
  onTestFinished(async () => {
    await upstreams.close();
    await content.close();
    await rm(directory, { recursive: true });
  });
  const links = createSharedLinks(createLinks(createMemoryStore(), memory), records, now);
  const turns = createTurns(records.locks, { waitMs, isAway: () => isAway(records) });
  const manifests = createManifests({ memory, content, links, turns });
  const policy = { tagFreshnessMs: 5 * MINUTE, staleMaxAgeMs: 60 * MINUTE };
  const tags = createTags({ memory, records, now, policy, manifests });
  const blobs = createBlobs({ content, links, turns, onFailed: () => {} });
  return createCachedRegistries({ manifests, tags, blobs })(upstreams.get('lab'));
}

const putTag = (raw: Buffer) => registry.put('app', [{ mediaType: mediaTypes.ociIndex, raw, tags: ['1'] }]);
const resolve = (replica: Registry): Promise<Digest> => replica.resolveTag('app', '1');
const layer = Buffer.alloc(100_000, 'a layer');
const layerDigest = digestOf(layer);
const putLayer = (repository = 'app') =>
  registry.put(repository, [{ mediaType: 'application/octet-stream', raw: layer }]);
async function pull(replica: Registry, repository = 'app', signal?: AbortSignal): Promise<Digest> {
  const blob = await replica.getBlob(repository, layerDigest, { signal });
  return digestOf(await new Response(await blob.open()).bytes());
}
/** The transfer is over. */
const isShared = () => expect.poll(() => records.get('shared-link', `lab/app@${layerDigest}`)).toBeDefined();
const fetches = () => asked().filter(each => each.includes('/blobs/'));
const asked = () => registry.requests.map(({ method, url }) => `${method} ${url.replace(/sha256:\w+/, 'digest')}`);

describe('a tag', () => {
  test('is asked for by one, fresh for all for the same time, and moves for all at once', async () => {
    const replicas = await Promise.all([createReplica(), createReplica(), createReplica()]);
    putTag(old);
    for (const replica of replicas) expect(await resolve(replica)).toBe(digestOf(old));
    expect(asked().filter(each => each.startsWith('HEAD'))).toHaveLength(1);
    putTag(moved);
    nowMs += 4 * MINUTE;
    for (const replica of replicas) expect(await resolve(replica)).toBe(digestOf(old));
    nowMs += 2 * MINUTE;
    for (const replica of replicas) expect(await resolve(replica)).toBe(digestOf(moved));
    expect(asked().filter(each => each.startsWith('HEAD'))).toHaveLength(2);
  });

  test('stays where the latest question found it, whichever answer comes last', async () => {
    const [slow, quick] = await Promise.all([createReplica(), createReplica()]);
    putTag(old);
    const answer = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    registry.intercept((_, response) => {
      registry.intercept();
      begun.resolve();
      const headers = { 'docker-content-digest': digestOf(old), 'content-type': mediaTypes.ociIndex };
      void answer.promise.then(() => response.writeHead(200, headers).end());
      return true;
    });
    const slowly = resolve(slow);
    await begun.promise;
    nowMs += 1000;
    putTag(moved);
    expect(await resolve(quick)).toBe(digestOf(moved));
    answer.resolve();
    expect(await slowly).toBe(digestOf(moved));
    for (const replica of [slow, quick]) expect(await resolve(replica)).toBe(digestOf(moved));
  });

  test('is fresh for one whose clock is behind, and not frozen by one whose clock is wrong', async () => {
    const replica = await createReplica();
    putTag(old);
    expect(await resolve(await createReplica({ aheadMs: 30_000 }))).toBe(digestOf(old));
    putTag(moved);
    expect(await resolve(replica)).toBe(digestOf(old));
    nowMs += 6 * MINUTE;
    expect(await resolve(await createReplica({ aheadMs: 600 * MINUTE }))).toBe(digestOf(moved));
    putTag(old);
    expect(await resolve(replica)).toBe(digestOf(old));
  });

  test('that the upstream has deleted is pulled by the digest that another has answered', async () => {
    const [first, second] = await Promise.all([createReplica(), createReplica()]);
    putTag(old);
    const digest = await resolve(first);
    registry.intercept((request, response) => {
      if (!request.url?.endsWith('/manifests/1')) return false;
      response.writeHead(404).end();
      return true;
    });
    expect(await resolve(second)).toBe(digest);
    expect(digestOf((await second.getManifest('app', digest)).raw)).toBe(digest);
  });
});

describe('a shared store', () => {
  beforeEach(() => {
    putLayer();
  });

  test('has what one has fetched for the others, whether or not the upstream still has it', async () => {
    const [first, second] = await Promise.all([createReplica(), createReplica()]);
    putTag(old);
    await resolve(first);
    await pull(first);
    await isShared();
    registry.intercept((_, response) => {
      response.writeHead(404).end();
      return true;
    });
    expect(digestOf((await second.getManifest('app', digestOf(old))).raw)).toBe(digestOf(old));
    expect(await second.headBlob('app', layerDigest)).toEqual({ size: layer.length });
    expect(await pull(second)).toBe(layerDigest);
    expect(fetches()).toHaveLength(1);
  });

  test('opens nothing for a repository that none of them was sent it for', async () => {
    const [first, second] = await Promise.all([createReplica(), createReplica()]);
    await pull(first);
    await isShared();
    await expect(pull(second, 'other')).rejects.toMatchObject({ status: 404 });
    putLayer('other');
    expect(await pull(second, 'other')).toBe(layerDigest);
    expect(fetches().filter(each => each.startsWith('GET /v2/other/'))).toHaveLength(2);
  });

  test('gets a blob that all ask for at once from one of them', async () => {
    const replicas = await Promise.all([createReplica(), createReplica(), createReplica()]);
    expect(await Promise.all(replicas.map(replica => pull(replica)))).toEqual(replicas.map(() => layerDigest));
    expect(fetches()).toHaveLength(1);
  });

  test('lets another fetch where the first one fails', async () => {
    const replicas = await Promise.all([createReplica(), createReplica()]);
    registry.intercept((_, response) => {
      registry.intercept();
      response.writeHead(500).end();
      return true;
    });
    const results = await Promise.allSettled(replicas.map(replica => pull(replica)));
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(fetches()).toHaveLength(2);
  });

  /** Of another process; returns what ends it. */
  async function holdTurn(): Promise<() => void> {
    const begun = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    void createSharedLocks({ store: records }).withLock(`fetch/lab/app@${layerDigest}`, () => {
      begun.resolve();
      return over.promise;
    });
    await begun.promise;
    return over.resolve;
  }

  test('is waited for until the turn of a process that has died ends by itself', async () => {
    await holdTurn();
    const replica = await createReplica();
    const waiting = pull(replica);
    await setImmediate();
    expect(fetches()).toEqual([]);
    nowMs += 16_000;
    expect(await waiting).toBe(layerDigest);
  });

  test('is not waited for for too long', async () => {
    await holdTurn();
    expect(await pull(await createReplica({ waitMs: 20 }))).toBe(layerDigest);
  });

  test('is not waited for by a client that leaves', async () => {
    const end = await holdTurn();
    const replica = await createReplica();
    const leaving = new AbortController();
    const waiting = pull(replica, 'app', leaving.signal);
    leaving.abort(new Error('it has left'));
    await expect(waiting).rejects.toThrow('it has left');
    expect(fetches()).toEqual([]);
    end();
    expect(await pull(replica)).toBe(layerDigest);
  });

  test('that has lost content gets it again', async () => {
    const [first, second] = await Promise.all([createReplica(), createReplica()]);
    await pull(first);
    await isShared();
    await sharedStore.delete(layerDigest);
    expect(await pull(second)).toBe(layerDigest);
    await expect.poll(() => sharedStore.find(layerDigest)).toEqual({ size: layer.length });
    expect(fetches()).toHaveLength(2);
  });

  test('that is away, or records that are, do not stop a pull, and are left alone for a while', async () => {
    let uses = 0;
    useShared = () => {
      uses += 1;
      throw new RegistryError('UNAVAILABLE', 'it does not answer', { status: 503 });
    };
    const replica = await createReplica();
    expect(await pull(replica)).toBe(layerDigest);
    putTag(old);
    await resolve(replica);
    expect(uses).toBe(1);
    const away = () => Promise.reject(new RecordStoreAway('the database does not answer'));
    const locks = createSharedLocks({ store: { ...records, write: away } });
    records = { ...records, write: away, put: away, get: away, locks };
    expect(await pull(await createReplica())).toBe(layerDigest);
  });

  test('gets what was cached while it was away as soon as it answers', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    useShared = () => {
      throw new RegistryError('UNAVAILABLE', 'it does not answer', { status: 503 });
    };
    const replica = await createReplica();
    putTag(old);
    await resolve(replica);
    await pull(replica);
    await isShared();
    useShared = () => {};
    vi.advanceTimersByTime(10_000);
    expect(await sharedStore.find(layerDigest)).toBeUndefined();
    putTag(moved);
    nowMs += 6 * MINUTE;
    await resolve(replica);
    await expect.poll(() => sharedStore.find(layerDigest)).toEqual({ size: layer.length });
    await expect.poll(() => sharedStore.find(digestOf(old))).toBeDefined();
    const second = await createReplica();
    expect(await pull(second)).toBe(layerDigest);
    expect(fetches()).toHaveLength(1);
  });

  test('that refuses one content gets the others, and is not left alone for it again and again', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const directory = await mkdtemp(join(tmpdir(), 'veneer-fleet-'));
    const cache = await createDiskStore({ directory });
    onTestFinished(async () => {
      await cache.close();
      await rm(directory, { recursive: true });
    });
    const refusal = new RegistryError('DENIED', 'it is too large');
    let failures = 0;
    const { find, ingest } = createSharedContent({
      cache,
      shared: {
        ...shared,
        store: () => Promise.reject(refusal),
        ingest(body, expected) {
          const refuse = new TransformStream<Uint8Array, Uint8Array>({ start: each => each.error(refusal) });
          return sharedStore.ingest(expected?.digest === layerDigest ? body.pipeThrough(refuse) : body, expected);
        },
      },
      onFailed: () => {
        failures += 1;
      },
    });
    for (const raw of [layer, old])
      await ingest(ReadableStream.from([raw]), { digest: digestOf(raw), size: raw.length }).done;
    /** That it answers is a reason to copy what it has missed. */
    const ask = async () => {
      vi.advanceTimersByTime(10_001);
      await find(digestOf(moved));
    };
    await ask();
    await expect.poll(() => failures).toBe(2);
    await ask();
    await expect.poll(() => sharedStore.find(digestOf(old))).toBeDefined();
    await expect.poll(() => failures).toBe(3);
    await ask();
    await expect.poll(() => failures).toBe(4);
    for (let times = 0; times < 20; times += 1) await ask();
    expect(failures).toBe(4);
  });

  test('that is silent is waited for once, and not for long', async () => {
    let uses = 0;
    useShared = () => {
      uses += 1;
      return new Promise(() => {});
    };
    const replica = await createReplica({ sharedWaitMs: 20 });
    putTag(old);
    expect(await resolve(replica)).toBe(digestOf(old));
    expect(await pull(replica)).toBe(layerDigest);
    expect(uses).toBe(1);
  });

  test('does not wait for records of which nothing is heard', async () => {
    const never = () => new Promise<never>(() => {});
    const locks = createSharedLocks({ store: { ...records, write: never } });
    records = { ...records, write: never, put: never, get: never, locks, version: () => undefined };
    expect(await pull(await createReplica())).toBe(layerDigest);
  });

  test('says where clients may read what it has, and nothing of what it has not', async () => {
    const replica = await createReplica();
    expect(await (await replica.getBlob('app', layerDigest)).locate?.()).toBeUndefined();
    await isShared();
    const blob = await replica.getBlob('app', layerDigest);
    expect(await blob.locate?.()).toBe(`https://s3.example/${layerDigest}`);
    await sharedStore.delete(layerDigest);
    expect(await blob.locate?.()).toBeUndefined();
    useShared = () => {
      throw new RegistryError('UNAVAILABLE', 'it does not answer', { status: 503 });
    };
    expect(await blob.locate?.()).toBeUndefined();
    expect(digestOf(await new Response(await blob.open()).bytes())).toBe(layerDigest);
  });
});
