// A disk without room for records or content: pulls go on, and ask upstream each time.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLinks } from '../../../src/cache/read-through/links.ts';
import { createManifests } from '../../../src/cache/read-through/manifests.ts';
import { createTags } from '../../../src/cache/read-through/tags.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { type RecordStore, RecordStoreFull } from '../../../src/state/store.ts';
import type { Upstreams } from '../../../src/upstream/upstream.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { generateImage } from '../../support/images.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { PATIENT } from '../../support/patience.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';

const memory = createMemory();

let directory: string;
let registry: TestRegistry;
let content: ContentStore;
let upstreams: Upstreams;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-full-'));
  registry = await startRegistry();
  content = await createDiskStore({ directory });
  upstreams = createUpstreams({
    memory,
    entries: { lab: { url: registry.url } },
    openUpstreams: false,
    allowPrivateUrls: false,
    timeouts: PATIENT,
    retries: 0,
  });
});

afterEach(async () => {
  await upstreams.close();
  await content.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

test.each([
  ['records', fillRecords],
  ['content', removeIngest],
])('a tag and its manifest are served without room for %s', async (_, fill) => {
  const records = await fill(createMemoryStore());
  const manifests = createManifests({ memory, content, links: createLinks(records, memory) });
  const policy = { tagFreshnessMs: 60_000, staleMaxAgeMs: 60_000 };
  const tags = createTags({ memory, records, manifests, policy, now: () => new Date(0) });
  const { root, content: generated } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  const raw = generated.get(root.digest)?.raw ?? Buffer.of();
  registry.put('app', [{ mediaType: root.mediaType, raw, tags: ['1'] }]);
  const origin = { upstream: upstreams.get('lab'), repository: 'app' };
  for (let round = 0; round < 2; round += 1) {
    const digest = await tags.resolve(origin, '1');
    expect(Buffer.from((await manifests.get(origin, digest)).raw)).toEqual(Buffer.from(raw));
  }
});

function fillRecords(records: RecordStore): RecordStore {
  const refuse = () => Promise.reject(new RecordStoreFull());
  return { ...records, put: refuse, write: refuse };
}

async function removeIngest(records: RecordStore): Promise<RecordStore> {
  await rm(join(directory, 'ingest'), { recursive: true });
  return records;
}
