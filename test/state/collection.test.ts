// Typed collections over a record store.
import { expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { createMemory } from '../../src/memory.ts';
import { createCollection } from '../../src/state/collection.ts';
import { type ListOptions, RecordUnreadable } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const schema = z.object({ image: z.string(), pulls: z.number().default(0) });

test('gets, lists and deletes the records that were put', async () => {
  const tokens = createCollection({ store: createMemoryStore(), name: 'tokens', schema });
  await tokens.put('a', { image: 'alpine', pulls: 3 });
  await tokens.put('b', { image: 'busybox' });
  expect(await tokens.get('a')).toEqual({ image: 'alpine', pulls: 3 });
  expect(await tokens.get('none')).toBeUndefined();
  expect(await tokens.list({ after: 'a', limit: 5 })).toEqual(['b']);
  expect(await tokens.delete('a')).toBe(true);
  expect(await tokens.get('a')).toBeUndefined();
});

test('parses on the way out: defaults are filled in and the type is the schema output', async () => {
  const tokens = createCollection({ store: createMemoryStore(), name: 'tokens', schema });
  await tokens.put('a', { image: 'alpine' });
  const record = await tokens.get('a');
  expect(record).toEqual({ image: 'alpine', pulls: 0 });
  expectTypeOf(record).toEqualTypeOf<{ image: string; pulls: number } | undefined>();
});

test('parses a record once, and again when another process has changed it', async () => {
  const store = createMemoryStore();
  const tokens = createCollection({ store, name: 'tokens', schema, memory: createMemory() });
  await tokens.put('a', { image: 'alpine' });
  const first = await tokens.get('a');
  expect(await tokens.get('a')).toBe(first);
  await createCollection({ store, name: 'tokens', schema }).put('a', { image: 'busybox' });
  expect(await tokens.get('a')).toEqual({ image: 'busybox', pulls: 0 });
  await store.delete('tokens', 'a');
  expect(await tokens.get('a')).toBeUndefined();
});

test.each([
  ['is no JSON', '{'],
  ['does not fit the schema', '{"image":7}'],
])('throws, naming the record, for one that %s', async (_, text) => {
  const store = createMemoryStore();
  await store.put('tokens', 'a', new TextEncoder().encode(text));
  const tokens = createCollection({ store, name: 'tokens', schema });
  await expect(tokens.get('a')).rejects.toThrow('tokens/a');
});

test('gives the entries of a prefix, parsed, with what a write that depends on one expects', async () => {
  const tokens = createCollection({ store: createMemoryStore(), name: 'tokens', schema });
  await tokens.put('a:1', { image: 'alpine' });
  await tokens.put('b:1', { image: 'busybox' });
  expect(await tokens.entries({ prefix: 'a:', limit: 5 })).toEqual([
    { key: 'a:1', value: { image: 'alpine', pulls: 0 }, expected: (await tokens.expecting('a:1')).expected },
  ]);
});

test('makes changes for a write of several collections', async () => {
  const store = createMemoryStore({ now: () => new Date(1000) });
  const tokens = createCollection({ store, name: 'tokens', schema });
  const other = createCollection({ store, name: 'other', schema });
  await tokens.put('a', { image: 'alpine' });
  await store.write([
    tokens.deleting('a'),
    tokens.putting('b', { image: 'busybox', pulls: 2 }),
    other.putting('b', { image: 'gone' }, { expiresAt: new Date(1000) }),
  ]);
  expect(await tokens.list({ limit: 5 })).toEqual(['b']);
  expect(await tokens.get('b')).toEqual({ image: 'busybox', pulls: 2 });
  expect(await other.get('b')).toBeUndefined();
});

test('hands on the expiry', async () => {
  let time = 0;
  const store = createMemoryStore({ now: () => new Date(time) });
  const tokens = createCollection({ store, name: 'tokens', schema });
  await tokens.put('a', { image: 'alpine' }, { expiresAt: new Date(1000) });
  time = 1000;
  expect(await tokens.get('a')).toBeUndefined();
});

test('leaves out of a listing what cannot be read, tells of it once, and fills the page with others', async () => {
  const told: string[] = [];
  const store = { ...createMemoryStore(), onUnreadable: (error: Error) => void told.push(error.message) };
  const tokens = createCollection({ store, name: 'tokens', schema });
  for (const key of ['a', 'b', 'c', 'd', 'e']) await tokens.put(key, { image: key });
  for (const key of ['a', 'b', 'd']) await store.put('tokens', key, new TextEncoder().encode('[7]'));
  const keysOf = async (options: ListOptions) => (await tokens.entries(options)).map(({ key }) => key);
  expect(await keysOf({ limit: 2 })).toEqual(['c', 'e']);
  expect(await keysOf({ limit: 1 })).toEqual(['c']);
  expect(await keysOf({ after: 'c', limit: 5 })).toEqual(['e']);
  expect(await tokens.list({ limit: 9 })).toHaveLength(5);
  expect(told).toEqual(['a', 'b', 'd'].map(key => `the stored record tokens/${key} cannot be read`));
});

test('is without what cannot be read for who can do without it, and knows that it is there', async () => {
  const store = createMemoryStore();
  const tokens = createCollection({ store, name: 'tokens', schema });
  await store.put('tokens', 'a', new TextEncoder().encode('[7]'));
  expect([await tokens.find('a'), await tokens.has('a'), await tokens.has('none')]).toEqual([undefined, true, false]);
  await expect(tokens.get('a')).rejects.toThrow(RecordUnreadable);
  await tokens.put('a', { image: 'alpine' });
  expect(await tokens.find('a')).toEqual({ image: 'alpine', pulls: 0 });
  expect(await tokens.delete('a')).toBe(true);
});
