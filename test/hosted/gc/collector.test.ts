// Collection: blobs and what a crash left, and the run as a whole.
import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createGarbageCollector } from '../../../src/hosted/gc/collector.ts';
import { createHostedRecords, holderKey, linkKey, memberKey, tagKey } from '../../../src/hosted/records.ts';
import { createHostedStore, type HostedChange } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { audit } from '../audit.ts';
import { bytes, type Parts, pushBlob, pushSmall, readBlob } from '../fixture.ts';
import { createMemoryEnvironment } from './environment.ts';
import { type CollectedRegistry, createRegistry, DAY } from './fixture.ts';

const everyone = { isReadable: () => true };
let registry: CollectedRegistry;

beforeEach(async () => {
  registry = await createRegistry();
  await registry.open({ untaggedMs: 7 * DAY });
});

afterEach(() => registry.remove());

test('one of many blobs that another process has pushed again meanwhile stays, and no other', async () => {
  for (let at = 0; at < 60; at += 1) await pushBlob(registry.hosted, 'local/app', bytes(`blob ${at}`));
  registry.time += 2 * DAY;
  const { records } = registry.place;
  let kept = '';
  const write: Parts['records']['write'] = async (changes, options) => {
    const found = changes.find(({ collection }) => collection === 'hosted.blob');
    if (kept === '' && found) {
      kept = found.key;
      const pushedAt = new Date(registry.time).toISOString();
      await records.put('hosted.blob', kept, bytes(JSON.stringify({ size: 6, pushedAt })));
    }
    await records.write(changes, options);
  };
  await registry.open({}, {}, { records: { ...records, write } });
  expect((await registry.collector.collect()).removed.blobs).toBe(59);
  expect(await records.list('hosted.blob', { limit: 100 })).toEqual([kept]);
  expect((await registry.place.inventory()).map(digest => `local/app@${digest}`)).toEqual([kept]);
});

test('many blobs go by two transactions, and one that ends the record of what was unlinked', async () => {
  for (let at = 0; at < 260; at += 1) await pushBlob(registry.hosted, 'local/app', bytes(`blob ${at}`));
  registry.time += 2 * DAY;
  let writes = 0;
  const write: Parts['records']['write'] = async (changes, options) => {
    writes += 1;
    await registry.place.records.write(changes, options);
  };
  await registry.open({}, {}, { records: { ...registry.place.records, write } });
  expect((await registry.collector.collect()).removed.blobs).toBe(260);
  expect(writes).toBe(3);
});

describe('a blob', () => {
  const content = randomBytes(1000);
  const digest = digestOf(content);

  test('that nothing refers to goes after the grace time, with its bytes', async () => {
    await pushBlob(registry.hosted, 'local/app', content);
    registry.time += DAY - 1;
    expect((await registry.collect()).removed.blobs).toBe(0);
    registry.time += 1;
    const report = await registry.collect();
    expect(report).toMatchObject({
      dryRun: false,
      startedAt: '2030-01-02T00:00:00.000Z',
      repositories: [
        {
          repository: 'local/app',
          removed: { tags: 0, manifests: 0, blobs: 1, bytes: 1000 },
          kept: { tags: 0, manifests: 0, blobs: 0, bytes: 0 },
        },
      ],
      removed: { blobs: 1, bytes: 1000 },
      orphans: { blobs: 0, bytes: 0 },
      freedBytes: 1000,
    });
    expect(await registry.place.inventory()).toEqual([]);
  });

  test.each<[string, () => Promise<unknown>]>([
    ['pushed again', () => pushBlob(registry.hosted, 'local/app', content)],
    ['mounted again', () => registry.hosted.blobs.mount('local/app', digest, everyone)],
    ['asked for', () => registry.hosted.blobs.head('local/app', digest)],
    ['read', () => readBlob(registry.hosted, 'local/app', digest)],
  ])('that was %s of late stays: a push may leave it out', async (_, use) => {
    await pushBlob(registry.hosted, 'local/app', content);
    registry.time += 3 * DAY;
    await use();
    registry.time += DAY - 1;
    expect((await registry.collect()).removed.blobs).toBe(0);
    registry.time += 1;
    expect((await registry.collect()).removed.blobs).toBe(1);
  });

  test('goes from one repository while another one needs it, which keeps its bytes', async () => {
    const { layer } = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
    await registry.hosted.blobs.mount('local/other', layer, everyone);
    registry.time += 2 * DAY;
    expect(await registry.collect()).toMatchObject({ removed: { blobs: 1, bytes: 10 }, freedBytes: 0 });
    expect(await readBlob(registry.hosted, 'local/app', layer)).toEqual(new Uint8Array(bytes('layer of a')));
    await expect(registry.hosted.blobs.head('local/other', layer)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  });

  test('that two repositories have no use for is freed once', async () => {
    await pushBlob(registry.hosted, 'local/a', content);
    await registry.hosted.blobs.mount('local/b', digest, everyone);
    registry.time += DAY;
    expect(await registry.collect()).toMatchObject({
      repositories: [{ repository: 'local/a' }, { repository: 'local/b' }],
      removed: { blobs: 2, bytes: 2000 },
      freedBytes: 1000,
    });
  });

  test('that its manifest no longer needs goes with the next run', async () => {
    const pushed = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
    registry.time += DAY;
    expect((await registry.collect()).repositories).toEqual([]);
    await registry.hosted.manifests.delete('local/app', pushed.digest);
    expect((await registry.collect()).removed).toEqual({ tags: 0, manifests: 0, blobs: 2, bytes: 22 });
    expect(await registry.place.inventory()).toEqual([]);
  });
});

describe('content that no repository links', () => {
  const content = randomBytes(300);

  test('goes, once its file is older than the grace', async () => {
    await registry.place.content.put(content);
    expect(await registry.collector.collect({ dryRun: true })).toMatchObject({ orphans: { blobs: 1, bytes: 300 } });
    expect(await registry.place.inventory()).toHaveLength(1);
    const report = await registry.collector.collect();
    expect(report).toMatchObject({ orphans: { blobs: 1, bytes: 300 }, freedBytes: 300, repositories: [] });
    expect(await registry.place.inventory()).toEqual([]);
  });

  test('stays while a push is about to link it', async () => {
    const gate = Promise.withResolvers<void>();
    const write: Parts['records']['write'] = async changes => {
      await gate.promise;
      await registry.place.records.write(changes);
    };
    await registry.open({ graceMs: 0 }, {}, { records: { ...registry.place.records, write } });
    const pushing = pushBlob(registry.hosted, 'local/app', content);
    while ((await registry.place.inventory()).length === 0) await setImmediate();
    const collected = Promise.all([registry.collector.collect({ dryRun: true }), registry.collector.collect()]);
    gate.resolve();
    await pushing;
    for (const { orphans } of await collected) expect(orphans).toEqual({ blobs: 0, bytes: 0 });
    await audit(registry.place);
  });
});

describe('a run', () => {
  test('tells of all that goes as events, and a dry run of nothing', async () => {
    const changes: HostedChange[] = [];
    const retention = [{ repositories: ['**'], tags: ['*'], maxAgeMs: 0 }];
    await registry.open({ graceMs: 0, untaggedMs: 0, retention }, { onChange: change => changes.push(change) });
    const { digest, layer, config, size } = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
    changes.length = 0;
    await registry.collector.collect({ dryRun: true });
    expect(changes).toEqual([]);
    await registry.collector.collect();
    const inApp = { kind: 'delete', repository: 'local/app' };
    const blob = { ...inApp, mediaType: 'application/octet-stream' };
    expect(changes).toEqual([
      { ...inApp, digest, tag: 'a', mediaType: mediaTypes.ociManifest, size },
      { ...inApp, digest, mediaType: mediaTypes.ociManifest, size },
      ...[config, layer].sort().map(gone => ({ ...blob, digest: gone, size: gone === config ? 12 : 10 })),
    ]);
  });

  test('goes through all repositories, whatever their names have in common', async () => {
    const names = ['local/a', 'local/a-b', 'local/a/b', 'local/a.b', 'local/a0', 'local/ab', 'a'];
    for (const name of names) await pushSmall(registry.hosted, name, name);
    for (const name of names) await pushBlob(registry.hosted, `${name}/only-blobs`, bytes(name));
    registry.time += 30 * DAY;
    const { repositories, removed } = await registry.collect();
    expect(repositories.map(({ repository }) => repository).sort()).toEqual(
      names.flatMap(name => [name, `${name}/only-blobs`]).sort(),
    );
    expect(removed).toMatchObject({ manifests: 7, blobs: 21 });
    expect(await registry.place.inventory()).toEqual([]);
  });

  test('tells how far it is', async () => {
    for (const name of ['local/a', 'local/b']) await pushSmall(registry.hosted, name, name, { tags: ['a'] });
    const progress: unknown[] = [];
    await registry.collector.collect({ onProgress: now => progress.push(now) });
    expect(progress).toEqual([
      { repositories: 1, visited: expect.any(Number) },
      { repositories: 2, visited: expect.any(Number) },
    ]);
  });

  test('stops where it is told to, and leaves all in order', async () => {
    for (const name of ['local/a', 'local/b']) await pushBlob(registry.hosted, name, bytes(name));
    registry.time += DAY;
    const stop = new AbortController();
    const run = registry.collector.collect({
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    });
    await expect(run).rejects.toThrow('enough');
    expect(await registry.place.inventory()).toHaveLength(1);
    await audit(registry.place);
    expect((await registry.collect()).removed.blobs).toBe(1);
  });

  test('waits for the one before', async () => {
    await pushBlob(registry.hosted, 'local/a', bytes('a'));
    registry.time += DAY;
    const runs = await Promise.all([registry.collector.collect(), registry.collector.collect()]);
    expect(runs.map(({ removed }) => removed.blobs)).toEqual([1, 0]);
  });

  test('that fails leaves all in order, and the next one does the rest', async () => {
    for (const name of ['local/a', 'local/b']) await pushBlob(registry.hosted, name, bytes(name));
    registry.time += DAY;
    const failing = { ...registry.place.content, delete: () => Promise.reject(new Error('a disk of tears')) };
    await registry.open({}, {}, { content: failing });
    await expect(registry.collector.collect()).rejects.toThrow('a disk of tears');
    await registry.open();
    expect(await registry.collector.collect()).toMatchObject({ removed: { blobs: 1 }, orphans: { blobs: 1 } });
    await audit(registry.place);
  });

  test('that fails has ended: nothing is removed after it', async () => {
    const [failing, slow] = [bytes('a'), bytes('b')];
    for (const content of [failing, slow]) await pushBlob(registry.hosted, 'local/app', content);
    registry.time += DAY;
    const begun = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    let deletions = 0;
    const remove: Parts['content']['delete'] = async digest => {
      deletions += 1;
      if (deletions === 2) begun.resolve();
      if (digest === digestOf(failing)) throw new Error('a disk of tears');
      await released.promise;
      await registry.place.content.delete(digest);
    };
    await registry.open({}, {}, { content: { ...registry.place.content, delete: remove } });
    let ended = false;
    const run = registry.collector.collect().finally(() => {
      ended = true;
    });
    run.catch(() => {});
    await begun.promise;
    for (let turn = 0; turn < 10; turn += 1) await setImmediate();
    expect(ended).toBe(false);
    released.resolve();
    await expect(run).rejects.toThrow('a disk of tears');
    expect(await registry.place.inventory()).toEqual([digestOf(failing)]);
  });

  test('reads two pages of records at most between two turns of others, though these answer at once', async () => {
    const environment = await createMemoryEnvironment();
    const { records, content, files: inventory } = environment;
    const { tags, tagged, manifests, holders, blobs } = createHostedRecords(records);
    const pushedAt = new Date(environment.time).toISOString();
    const many = Array.from({ length: 2500 }, (_, at) => digestOf(bytes(`${at}`)));
    const [first = digestOf(bytes('')), ...rest] = many;
    const mediaType = mediaTypes.ociManifest;
    const inMany = many.map((_, at) => holderKey(first, 'blob', `other/${at}`));
    await records.write([
      ...rest.slice(0, 100).map(digest => blobs.putting(linkKey('local/app', digest), { size: 1, pushedAt })),
      ...rest.slice(0, 100).map(digest => holders.putting(holderKey(digest, 'blob', 'local/app'), {})),
      ...inMany.map(key => holders.putting(key, {})),
      manifests.putting(linkKey('local/app', first), { mediaType, size: 1, references: [], pushedAt }),
      ...many.map((_, at) => tags.putting(tagKey('local/app', `${at}`), { digest: first, pushedAt })),
      ...many.map((_, at) => tagged.putting(memberKey('local/app', first, `${at}`), {})),
    ]);
    environment.time += 60 * DAY;
    let [reads, longest] = [0, 0];
    const counted = <T extends readonly unknown[]>(page: T): T => {
      reads += page.length;
      return page;
    };
    const store = createHostedStore({
      memory: createMemory(),
      content,
      records: {
        ...records,
        list: async (collection, options) => counted(await records.list(collection, options)),
        entries: async (collection, options) => counted(await records.entries(collection, options)),
      },
      now: () => new Date(environment.time),
    });
    const retention = [{ repositories: ['**'], tags: ['*'], maxAgeMs: 0 }];
    const collector = createGarbageCollector(store, { inventory, graceMs: 0, untaggedMs: 0, retention });
    let isOver = false;
    const others = (async () => {
      while (!isOver) {
        await setImmediate();
        longest = Math.max(longest, reads);
        reads = 0;
      }
    })();
    expect((await collector.collect({ dryRun: true })).removed).toMatchObject({ tags: 2500, manifests: 1, blobs: 100 });
    isOver = true;
    await others;
    expect(longest).toBeLessThanOrEqual(2 * 1000);
    await environment.remove();
  });
});

test('a blob of the repository of another name is not looked at for its own', async () => {
  const { layer } = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
  await registry.hosted.blobs.mount('local/app-b', layer, everyone);
  registry.time += DAY;
  await registry.collect();
  expect(await registry.hasBlob(layer)).toBe(true);
});
