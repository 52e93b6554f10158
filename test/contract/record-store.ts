// What every record store keeps to: each sentence of src/state/store.ts as a test.
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RecordStore } from '../../src/state/store.ts';

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
