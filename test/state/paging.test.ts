// Records that are more than one page: all with a prefix, in the order of their keys.
import { describe, expect, test } from 'vitest';
import { entriesOf, keysOf, type ListOptions, pagesOf, scanPrefixes } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

async function createFive() {
  const store = createMemoryStore();
  const keys = ['a/1', 'b/1', 'b/2', 'b/3', 'c/1'];
  for (const key of keys) await store.put('some', key, new TextEncoder().encode(key));
  const reads: ListOptions[] = [];
  const list = (options: ListOptions) => {
    reads.push(options);
    return store.list('some', options);
  };
  return { store, list, reads };
}

test.each([
  { limit: 1, pages: [['b/1'], ['b/2'], ['b/3']], reads: 4 },
  { limit: 2, pages: [['b/1', 'b/2'], ['b/3']], reads: 2 },
  { limit: 3, pages: [['b/1', 'b/2', 'b/3']], reads: 2 },
  { limit: 4, pages: [['b/1', 'b/2', 'b/3']], reads: 1 },
])('a page of fewer than $limit is the last', async ({ limit, pages, reads }) => {
  const five = await createFive();
  expect(await Array.fromAsync(pagesOf(five.list, { prefix: 'b/', limit }))).toEqual(pages);
  expect(five.reads).toHaveLength(reads);
});

test('a prefix that nothing has gives no page', async () => {
  const { list } = await createFive();
  expect(await Array.fromAsync(pagesOf(list, { prefix: 'd/', limit: 2 }))).toEqual([]);
});

test('keys begin after another key where one is given', async () => {
  const { list } = await createFive();
  expect(await Array.fromAsync(keysOf({ list }, ''))).toEqual(['a/1', 'b/1', 'b/2', 'b/3', 'c/1']);
  expect(await Array.fromAsync(keysOf({ list }, 'b/', 'b/1'))).toEqual(['b/2', 'b/3']);
});

test('entries of more than one page are all there, each with its value', async () => {
  const { store } = await createFive();
  const keys = Array.from({ length: 1200 }, (_, i) => `many/${String(i).padStart(4, '0')}`);
  for (const key of keys) await store.put('some', key, new Uint8Array());
  const entries = (options: ListOptions) => store.entries('some', options);
  expect((await Array.fromAsync(entriesOf({ entries }, 'many/'))).map(({ key }) => key)).toEqual(keys);
});

describe('a scan of prefixes', () => {
  const name = (number: number) => `${number}`.padStart(5, '0');

  async function scan(keys: readonly string[], prefixes: readonly string[], isLeft?: (key: string) => boolean) {
    let read = 0;
    const list = async ({ after = '', limit }: ListOptions) => {
      const page = keys.filter(key => key > after).slice(0, limit);
      read += page.length;
      return page;
    };
    const isThere = scanPrefixes({ list }, isLeft);
    const found: string[] = [];
    for (const prefix of prefixes) if (await isThere(prefix)) found.push(prefix);
    return { found, read };
  }

  test('finds what has a key that is left, wherever pages end', async () => {
    const keys = Array.from({ length: 3000 }, (_, at) => `${name(Math.floor(at / 3) * 2)} ${at % 3}`);
    const prefixes = Array.from({ length: 2000 }, (_, at) => `${name(at)} `);
    const expected = prefixes.filter(prefix => keys.some(key => key.startsWith(prefix)));
    expect((await scan(keys, prefixes)).found).toEqual(expected);
    expect((await scan(keys, prefixes, key => key.endsWith('2'))).found).toEqual(expected);
    expect((await scan(keys, prefixes, () => false)).found).toEqual([]);
  });

  test('reads all keys where it is asked for all, and few where for few', async () => {
    const keys = Array.from({ length: 20_000 }, (_, at) => `${name(at)} a`);
    const some = (every: number) => keys.filter((_, at) => at % every === 0).map(key => key.slice(0, -1));
    expect((await scan(keys, some(1))).read).toBe(20_000);
    expect((await scan(keys, some(1000))).read).toBe(20 * 8);
  });
});
