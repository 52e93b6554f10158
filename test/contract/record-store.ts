// What every record store keeps to: each sentence of src/state/store.ts as a test.
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Change, RecordStore } from '../../src/state/store.ts';

export function recordStoreContract(
  createStore: (options: { readonly now: () => Date }) => Promise<RecordStore>,
): void {
  const START = Date.UTC(2030, 0, 1);
  let store: RecordStore;
  let time: number;
  const inSeconds = (seconds: number) => new Date(time + seconds * 1000);
  const value = (text: string) => new TextEncoder().encode(text);
  const read = async (collection: string, key: string) => {
    const found = await store.get(collection, key);
    return found && new TextDecoder().decode(found);
  };

  beforeEach(async () => {
    time = START;
    store = await createStore({ now: () => new Date(time) });
  });

  afterEach(() => store.close());

  test('gets the value that was put last', async () => {
    await store.put('tokens', 'a', value('one'));
    await store.put('tokens', 'a', value('two'));
    expect(await read('tokens', 'a')).toBe('two');
  });

  test('keeps any bytes, none too, apart from the array that was given', async () => {
    const bytes = Uint8Array.of(0, 255, 128);
    await store.put('tokens', 'bytes', bytes);
    bytes.fill(7);
    await store.put('tokens', 'none', new Uint8Array());
    expect([...((await store.get('tokens', 'bytes')) ?? [])]).toEqual([0, 255, 128]);
    expect(await store.get('tokens', 'none')).toHaveLength(0);
  });

  test('has nothing under a key that was never put', async () => {
    expect(await store.get('tokens', 'a')).toBeUndefined();
    expect(await store.delete('tokens', 'a')).toBe(false);
    expect(await store.list('tokens', { limit: 10 })).toEqual([]);
  });

  test('keeps collections apart', async () => {
    await store.put('tokens', 'a', value('token'));
    await store.put('origins', 'a', value('origin'));
    await store.delete('tokens', 'a');
    expect(await read('origins', 'a')).toBe('origin');
    expect(await store.list('tokens', { limit: 10 })).toEqual([]);
  });

  test('says whether there was a record to delete', async () => {
    await store.put('tokens', 'a', value('one'));
    expect(await store.delete('tokens', 'a')).toBe(true);
    expect(await store.delete('tokens', 'a')).toBe(false);
    expect(await store.get('tokens', 'a')).toBeUndefined();
  });

  test('lists keys in ascending order, page by page', async () => {
    for (const key of ['b', 'a', 'é', 'B', 'ab', '\u{1F600}', '\uFF5E']) await store.put('tokens', key, value(key));
    const first = await store.list('tokens', { limit: 4 });
    expect(first).toEqual(['B', 'a', 'ab', 'b']);
    expect(await store.list('tokens', { after: 'b', limit: 4 })).toEqual(['é', '\uFF5E', '\u{1F600}']);
    expect(await store.list('tokens', { after: 'aa', limit: 1 })).toEqual(['ab']);
  });

  test.each([
    ['lists keys of a prefix', { prefix: 'a/b:' }, ['a/b:', 'a/b:1', 'a/b:\u{10FFFF}x']],
    ['lists keys of a prefix after another key', { prefix: 'a/b:', after: 'a/b:1' }, ['a/b:\u{10FFFF}x']],
    [
      'ignores an after that lies before the prefix',
      { prefix: 'a/b:', after: 'a' },
      ['a/b:', 'a/b:1', 'a/b:\u{10FFFF}x'],
    ],
    ['lists nothing after the prefix', { prefix: 'a/b:', after: 'a/c' }, []],
    ['lists nothing of a prefix that no key has', { prefix: 'b' }, []],
    ['takes the prefix literally', { prefix: 'a_b' }, []],
    ['lists a prefix that ends before the surrogates', { prefix: '\uD7FF' }, ['\uD7FF', '\uD7FF1']],
    ['lists a prefix of the last character', { prefix: '\u{10FFFF}' }, ['\u{10FFFF}', '\u{10FFFF}\u{10FFFF}']],
    [
      'lists all keys of the empty prefix',
      { prefix: '', after: 'a/c' },
      ['a0', '\uD7FF', '\uD7FF1', '\uE000', '\u{10FFFF}', '\u{10FFFF}\u{10FFFF}'],
    ],
  ])('%s', async (_, options, expected) => {
    const keys = ['a', 'a/b', 'a/b:', 'a/b:1', 'a/b:\u{10FFFF}x', 'a/b;', 'a/c', 'a0'];
    const last = ['\uD7FF', '\uD7FF1', '\uE000', '\u{10FFFF}', '\u{10FFFF}\u{10FFFF}'];
    for (const key of [...keys, ...last]) await store.put('tags', key, value(key));
    expect(await store.list('tags', { ...options, limit: 100 })).toEqual(expected);
    expect(await store.list('tags', { ...options, limit: 1 })).toEqual(expected.slice(0, 1));
  });

  test('gives the entries of a listing with their values', async () => {
    for (const key of ['a:1', 'a:2', 'a:3', 'b:1']) await store.put('tags', key, value(`value of ${key}`));
    const entries = await store.entries('tags', { prefix: 'a:', after: 'a:1', limit: 10 });
    expect(entries.map(entry => [entry.key, new TextDecoder().decode(entry.value)])).toEqual([
      ['a:2', 'value of a:2'],
      ['a:3', 'value of a:3'],
    ]);
  });

  test('gives neither expired entries nor the array that it keeps', async () => {
    await store.put('tags', 'a', value('one'), { expiresAt: inSeconds(60) });
    await store.put('tags', 'b', value('two'));
    time += 60_000;
    const [entry, ...others] = await store.entries('tags', { limit: 10 });
    expect([entry?.key, others]).toEqual(['b', []]);
    entry?.value.fill(0);
    expect(await read('tags', 'b')).toBe('two');
  });

  const put = (key: string, text: string): Change => ({ kind: 'put', collection: 'tags', key, value: value(text) });
  const remove = (key: string): Change => ({ kind: 'delete', collection: 'tags', key });

  test('writes changes of several collections in their order', async () => {
    await store.put('tags', 'old', value('one'));
    await store.write([
      put('a', 'one'),
      put('a', 'two'),
      remove('old'),
      put('gone', 'three'),
      remove('gone'),
      remove('never there'),
      { kind: 'put', collection: 'links', key: 'a', value: value('link'), expiresAt: inSeconds(60) },
    ]);
    expect(await store.list('tags', { limit: 10 })).toEqual(['a']);
    expect([await read('tags', 'a'), await read('links', 'a')]).toEqual(['two', 'link']);
    time += 60_000;
    expect(await store.list('links', { limit: 10 })).toEqual([]);
  });

  test('writes no changes at all', async () => {
    await store.write([]);
    expect(await store.list('tags', { limit: 10 })).toEqual([]);
  });

  test('forgets a record from its expiry on', async () => {
    await store.put('tokens', 'a', value('one'), { expiresAt: inSeconds(60) });
    time += 59_999;
    expect(await read('tokens', 'a')).toBe('one');
    expect(await store.list('tokens', { limit: 10 })).toEqual(['a']);
    time += 1;
    expect(await store.get('tokens', 'a')).toBeUndefined();
    expect(await store.list('tokens', { limit: 10 })).toEqual([]);
    expect(await store.delete('tokens', 'a')).toBe(false);
  });

  test('keeps a record without expiry, also one that had an expiry before', async () => {
    await store.put('tokens', 'a', value('one'), { expiresAt: inSeconds(60) });
    await store.put('tokens', 'a', value('two'));
    time += 365 * 24 * 3600 * 1000;
    expect(await store.sweep()).toBe(0);
    expect(await read('tokens', 'a')).toBe('two');
  });

  test('sweeps what has expired, in every collection, and counts it', async () => {
    await store.put('tokens', 'a', value('one'), { expiresAt: inSeconds(60) });
    await store.put('origins', 'b', value('two'), { expiresAt: inSeconds(60) });
    await store.put('tokens', 'c', value('three'), { expiresAt: inSeconds(61) });
    time += 60_000;
    expect(await store.sweep()).toBe(2);
    expect(await store.sweep()).toBe(0);
    // Time turned back tells a removed record from a hidden one.
    time = START;
    expect(await store.get('tokens', 'a')).toBeUndefined();
    expect(await read('tokens', 'c')).toBe('three');
  });
}
