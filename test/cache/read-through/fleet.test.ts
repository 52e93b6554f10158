// Several processes with the same records: what one of them has asked an upstream holds for all of them.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createBlobs } from '../../../src/cache/read-through/blobs.ts';
import { createLinks } from '../../../src/cache/read-through/links.ts';
import { createManifests } from '../../../src/cache/read-through/manifests.ts';
import { createTags } from '../../../src/cache/read-through/tags.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import { createMemory } from '../../../src/memory.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { createCachedRegistries } from '../../../src/pull/registries.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { createSharedLocks } from '../../../src/state/locks.ts';
import type { RecordStore } from '../../../src/state/store.ts';
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

beforeEach(async () => {
  nowMs = Date.UTC(2030, 0, 1);
  registry = await startRegistry();
  const store = createMemoryStore({ now: () => new Date(nowMs) });
  records = { ...store, locks: createSharedLocks({ store, pollMs: 10 }) };
});

afterEach(() => registry.close());

/** `aheadMs`: of its clock. */
async function createReplica({ aheadMs = 0 } = {}): Promise<Registry> {
  const now = () => new Date(nowMs + aheadMs);
  const memory = createMemory();
  const directory = await mkdtemp(join(tmpdir(), 'veneer-fleet-'));
  const content = await createDiskStore({ directory });
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
  const links = createLinks(createMemoryStore(), memory);
  const manifests = createManifests({ memory, content, links });
  const policy = { tagFreshnessMs: 5 * MINUTE, staleMaxAgeMs: 60 * MINUTE };
  const tags = createTags({ memory, records, now, policy, manifests });
  const blobs = createBlobs({ content, links, onFailed: () => {} });
  return createCachedRegistries({ manifests, tags, blobs })(upstreams.get('lab'));
}

const putTag = (raw: Buffer) => registry.put('app', [{ mediaType: mediaTypes.ociIndex, raw, tags: ['1'] }]);
const resolve = (replica: Registry): Promise<Digest> => replica.resolveTag('app', '1');
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
