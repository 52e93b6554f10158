// Collection of tags: what retention lets go of, and what becomes of that.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { audit } from '../audit.ts';
import { type Place, pushSmall, putManifest } from '../fixture.ts';
import { type CollectedRegistry, createRegistry, DAY } from './fixture.ts';

const HOUR = DAY / 24;
let registry: CollectedRegistry;

beforeEach(async () => {
  registry = await createRegistry();
  await registry.open({ untaggedMs: 7 * DAY });
});

afterEach(() => registry.remove());

describe('retention', () => {
  const rule = { repositories: ['local/app'], tags: ['*'] };
  const pushTags = async (...tags: readonly string[]) => {
    for (const tag of tags) {
      await pushSmall(registry.hosted, 'local/app', tag, { tags: [tag] });
      registry.time += HOUR;
    }
  };

  test('removes tags, and what they led to has its time from then', async () => {
    await registry.open({ untaggedMs: 7 * DAY, retention: [{ ...rule, keepNewest: 2 }] });
    await pushTags('1', '2', '3');
    registry.time += 30 * DAY;
    expect(await registry.collect()).toMatchObject({
      removed: { tags: 1, manifests: 0 },
      kept: { tags: 2, manifests: 3 },
    });
    expect((await registry.hosted.tags.list('local/app', {})).tags).toEqual(['2', '3']);
    registry.time += 7 * DAY;
    expect(await registry.collect()).toMatchObject({
      removed: { tags: 0, manifests: 1, blobs: 2 },
      kept: { manifests: 2 },
    });
  });

  test('removes all at once where nothing has a time to wait', async () => {
    await registry.open({ graceMs: 0, untaggedMs: 0, retention: [{ ...rule, maxAgeMs: HOUR }] });
    await pushTags('1', '2');
    expect(await registry.collect()).toMatchObject({ removed: { tags: 2, manifests: 2, blobs: 4 }, kept: { tags: 0 } });
    expect(await registry.place.inventory()).toEqual([]);
  });

  test('leaves immutable tags, and counts only the others', async () => {
    const isImmutable = (_: string, tag: string) => tag.startsWith('v');
    await registry.open({ retention: [{ ...rule, keepNewest: 1 }] }, { isImmutable });
    await pushTags('v1', 'a', 'b', 'v2');
    expect((await registry.collect()).removed.tags).toBe(1);
    expect((await registry.hosted.tags.list('local/app', {})).tags).toEqual(['b', 'v1', 'v2']);
  });

  test('leaves other repositories', async () => {
    await registry.open({ retention: [{ ...rule, maxAgeMs: 0 }] });
    await pushSmall(registry.hosted, 'local/app/web', 'a', { tags: ['a'] });
    expect((await registry.collect()).removed.tags).toBe(0);
  });

  test('leaves a tag that is pushed again while it runs', async () => {
    await pushTags('1', '2');
    const { raw } = await pushSmall(registry.hosted, 'local/app', '1');
    const list = async (...args: Parameters<Place['records']['entries']>) => {
      const found = await registry.place.records.entries(...args);
      if (args[0] !== 'hosted.tag' || found.length === 0) return found;
      registry.time += 1;
      await putManifest(registry.hosted, 'local/app', raw, { tags: ['1'] });
      return found;
    };
    const parts = { records: { ...registry.place.records, entries: list } };
    await registry.open({ retention: [{ ...rule, keepNewest: 1 }] }, {}, parts);
    expect((await registry.collector.collect()).removed.tags).toBe(0);
  });

  test('removes a tag before or after a push of it, and not in between', async () => {
    await pushTags('1', '2');
    const { raw, digest } = await pushSmall(registry.hosted, 'local/app', 'new');
    const { records } = registry.place;
    let pushing: Promise<unknown> | undefined;
    const write: Place['records']['write'] = async changes => {
      const isRemoval = changes.some(({ kind, collection }) => kind === 'delete' && collection === 'hosted.tag');
      if (isRemoval && !pushing) {
        pushing = putManifest(registry.hosted, 'local/app', raw, { tags: ['1'] });
        for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
      }
      await records.write(changes);
    };
    await registry.open({ retention: [{ ...rule, keepNewest: 1 }] }, {}, { records: { ...records, write } });
    expect((await registry.collector.collect()).removed.tags).toBe(1);
    await pushing;
    expect(await registry.hosted.tags.resolve('local/app', '1')).toBe(digest);
    await audit(registry.place);
  });
});
