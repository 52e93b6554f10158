// Records that are more than one page: all with a prefix, in the order of their keys.
import { expect, test } from 'vitest';
import { entriesOf, keysOf, type ListOptions, pagesOf } from '../../src/state/store.ts';
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
