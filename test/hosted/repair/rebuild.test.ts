// Rebuilding what repositories have, from the link journal and the bytes: after any history, and over any older copy of the records.
import { readdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBlobFiles } from '../../../src/content/blob-files.ts';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import { createQuota } from '../../../src/hosted/quota.ts';
import { type LinkJournal, openLinkJournal } from '../../../src/hosted/repair/link-journal.ts';
import { rebuildLinks } from '../../../src/hosted/repair/rebuild.ts';
import { createHostedRepositories, type HostedRepositories } from '../../../src/hosted/repositories.ts';
import { createHostedStore } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { bytes, createPlace, descriptorOf, json, type Place, pushBlob, pushSmall, putManifest } from '../fixture.ts';

let place: Place;
let clock: number;

beforeEach(async () => {
  place = await createPlace();
  clock = Date.UTC(2030, 0, 1);
});

const journals: LinkJournal[] = [];

afterEach(async () => {
  await Promise.all(journals.splice(0).map(({ close }) => close()));
  await place.remove();
});

const now = () => new Date(clock++);
const everyone = { isReadable: () => true };

async function open(records = place.records): Promise<HostedRepositories> {
  const { directory } = place;
  const journal = openLinkJournal({ directory, records, now });
  journals.push(journal);
  const quota = await createQuota({ records: journal.records, limits: [] });
  const stores = { content: place.content, records: journal.records, memory: createMemory() };
  const store = createHostedStore({ ...stores, now, options: { quota } });
  return createHostedRepositories(store, await createUploadFiles({ directory }));
}

const rebuild = (records: RecordStore) =>
  rebuildLinks({ directory: place.directory, records, recovered: 'local/recovered' });

const COLLECTIONS = ['blob', 'manifest', 'tag', 'tagged', 'holder', 'reference', 'referrer', 'usage'];

/** All that is recorded of repositories. */
async function dump(records: RecordStore): Promise<unknown> {
  const all = COLLECTIONS.map(async name => {
    const entries = await records.entries(`hosted.${name}`, { limit: 1e6 });
    return [name, entries.map(({ key, value }) => [key, JSON.parse(Buffer.from(value).toString())])];
  });
  return Promise.all(all);
}

async function copyOf(records: RecordStore): Promise<RecordStore> {
  const copy = createMemoryStore();
  for (const name of COLLECTIONS) {
    const collection = `hosted.${name}`;
    for (const { key, value } of await records.entries(collection, { limit: 1e6 }))
      await copy.put(collection, key, value);
  }
  return copy;
}

const repository = fc.constantFrom('local/a', 'local/a/b');
const what = fc.constantFrom('x', 'y', 'z');
const action = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant('push'), repository, what) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('mount'), repository, what) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('deleteTag'), repository, what) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('deleteManifest'), repository, what) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('deleteBlob'), repository, what) },
);

/** What a client may be refused changes nothing. */
async function act(hosted: HostedRepositories, [kind, name, text]: readonly [string, string, string]): Promise<void> {
  const layer = digestOf(bytes(`layer of ${text}`));
  const tags = (await hosted.tags.list(name, {}).catch(() => ({ tags: [] }))).tags;
  const work = {
    push: () => pushSmall(hosted, name, text, { tags: [text, 'latest'] }),
    mount: () => hosted.blobs.mount(name, layer, everyone),
    deleteTag: () => hosted.tags.delete(name, tags.at(-1) ?? text),
    deleteManifest: async () => hosted.manifests.delete(name, await hosted.tags.resolve(name, text)),
    deleteBlob: () => hosted.blobs.delete(name, layer),
  }[kind];
  await work?.().catch(() => {});
}

test('from nothing, or over any copy of before, the records are what they were', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 25 }), fc.nat(25), async (actions, copiedAt) => {
      const here = await createPlace();
      place = here;
      const hosted = await open();
      let copy = createMemoryStore();
      for (const [at, each] of actions.entries()) {
        if (at === copiedAt) copy = await copyOf(here.records);
        await act(hosted, each);
      }
      const before = await dump(here.records);
      const fresh = createMemoryStore();
      const report = await rebuild(fresh);
      expect(report).toMatchObject({ damagedLines: 0, lost: [], broken: [], unnamed: { files: 0 } });
      expect(await dump(fresh)).toEqual(before);
      await rebuild(copy);
      expect(await dump(copy)).toEqual(before);
      await here.remove();
    }),
    { numRuns: 40 },
  );
  place = await createPlace();
});

test('once more changes nothing, and what was pushed since is kept', async () => {
  const hosted = await open();
  await pushSmall(hosted, 'local/app', 'a', { tags: ['1', 'moved'] });
  const fresh = createMemoryStore();
  // The service went on with the records that it found: none.
  const { digest } = await pushSmall(await open(fresh), 'local/app', 'b', { tags: ['2', 'moved'] });
  const report = await rebuild(fresh);
  expect(report.rebuilt).toEqual({ tags: 1, manifests: 1, blobs: 2 });
  const first = await dump(fresh);
  expect(await rebuild(fresh)).toMatchObject({ rebuilt: { tags: 0, manifests: 0, blobs: 0 }, total: report.total });
  expect(await dump(fresh)).toEqual(first);
  const after = await open(fresh);
  expect(await after.tags.resolve('local/app', 'moved')).toBe(digest);
  expect((await after.tags.list('local/app', {})).tags).toEqual(['1', '2', 'moved']);
});

test('what lost its bytes is not rebuilt, and named', async () => {
  const hosted = await open();
  const whole = await pushSmall(hosted, 'local/app', 'a', { tags: ['whole'] });
  const cut = await pushSmall(hosted, 'local/app', 'b', { tags: ['cut'] });
  const gone = await pushSmall(hosted, 'local/app', 'c', { tags: ['gone'] });
  const { pathOf } = createBlobFiles(place.directory);
  await truncate(pathOf(cut.digest), 100);
  await rm(pathOf(gone.layer));
  const fresh = createMemoryStore();
  const report = await rebuild(fresh);
  expect(report).toMatchObject({
    rebuilt: { tags: 2, manifests: 2, blobs: 5 },
    lost: [`local/app@${gone.layer}`, `local/app@${cut.digest}`, 'local/app:cut'],
    broken: [],
    unnamed: { files: 0 },
  });
  // What is left of it.
  expect(await readdir(join(place.directory, 'damaged'))).toHaveLength(1);
  const after = await open(fresh);
  expect(await after.tags.resolve('local/app', 'whole')).toBe(whole.digest);
  // The next push brings what is missing.
  expect(await after.tags.resolve('local/app', 'gone')).toBe(gone.digest);
  await pushSmall(after, 'local/app', 'c', { tags: ['gone'] });
  expect(await after.blobs.head('local/app', gone.layer)).toBeDefined();
});

test('records whose bytes are not there stay, and are named', async () => {
  const { layer } = await pushSmall(await open(), 'local/app', 'a', { tags: ['1'] });
  await rm(createBlobFiles(place.directory).pathOf(layer));
  expect(await rebuild(place.records)).toMatchObject({ lost: [], broken: [`local/app@${layer}`] });
});

describe('without a journal', () => {
  test('manifests get into one repository by their digests, with what they refer to, and nothing goes', async () => {
    const hosted = await open();
    const image = await pushSmall(hosted, 'local/secret', 'a', { tags: ['1'] });
    const noType = json({
      schemaVersion: 2,
      config: descriptorOf(bytes('{"seed":"a"}'), mediaTypes.ociConfig),
      layers: [],
    });
    const plain = await putManifest(hosted, 'local/secret', noType, { tags: ['plain'] });
    const entry = { mediaType: mediaTypes.ociManifest, digest: image.digest, size: image.size };
    const index = json({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [entry] });
    const root = await putManifest(hosted, 'local/secret', index, { contentType: mediaTypes.ociIndex, tags: ['all'] });
    await pushBlob(hosted, 'local/secret', bytes('referred to by nothing'));
    await pushBlob(hosted, 'local/secret', bytes('{"mediaType":"application/vnd.oci.image.index.v1+json"}'));
    await rm(join(place.directory, 'links.jsonl'));
    const files = await place.inventory();
    const fresh = createMemoryStore();
    expect(await rebuild(fresh)).toMatchObject({
      hasJournal: false,
      rebuilt: { tags: 0, manifests: 0, blobs: 0 },
      recovered: { tags: 0, manifests: 3, blobs: 2 },
      total: { repositories: 1, tags: 0, manifests: 3, blobs: 2 },
      unnamed: { files: 2 },
    });
    expect(await place.inventory()).toEqual(files);
    const after = await open(fresh);
    for (const digest of [image.digest, plain.digest, root.digest]) {
      expect((await after.manifests.get('local/recovered', digest)).digest).toBe(digest);
    }
    expect(await after.blobs.head('local/recovered', image.layer)).toBeDefined();
  });

  test('an older copy keeps what it names, and only the rest is recovered by digest', async () => {
    const hosted = await open();
    const old = await pushSmall(hosted, 'local/app', 'a', { tags: ['1'] });
    const copy = await copyOf(place.records);
    await pushSmall(hosted, 'local/app', 'b', { tags: ['2'] });
    await rm(join(place.directory, 'links.jsonl'));
    expect(await rebuild(copy)).toMatchObject({
      recovered: { manifests: 1, blobs: 2 },
      total: { repositories: 2, tags: 1 },
    });
    expect(await (await open(copy)).tags.resolve('local/app', '1')).toBe(old.digest);
  });
});
