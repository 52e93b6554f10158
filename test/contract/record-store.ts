// What every record store keeps to: each sentence of src/state/store.ts as a test.
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Change, type Expectation, RecordConflict, type RecordStore } from '../../src/state/store.ts';

type FuzzedValue<A> = A extends fc.Arbitrary<infer T> ? T : never;

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

  test('has nothing under a key with a NUL, and lists what is behind it', async () => {
    for (const key of ['a', 'ab', 'b']) await store.put('tokens', key, value(key));
    expect(await store.get('tokens', 'a\0')).toBeUndefined();
    expect(await store.list('tokens', { prefix: 'a\0', limit: 9 })).toEqual([]);
    expect(await store.list('tokens', { after: 'a\0b', limit: 9 })).toEqual(['ab', 'b']);
    const entries = await store.entries('tokens', { prefix: 'a', after: 'a\0', limit: 9 });
    expect(entries.map(({ key }) => key)).toEqual(['ab']);
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

  const expecting = (key: string, text?: string): Expectation => ({
    ...{ collection: 'tags', key },
    value: text === undefined ? undefined : value(text),
  });

  test('writes where all is as expected, and otherwise changes nothing and names what was not', async () => {
    await store.put('tags', 'a', value('one'));
    await store.write([put('a', 'two'), put('b', 'new')], { expected: [expecting('a', 'one'), expecting('b')] });
    expect([await read('tags', 'a'), await read('tags', 'b')]).toEqual(['two', 'new']);
    for (const expected of [expecting('a', 'one'), expecting('a', ''), expecting('a'), expecting('c', 'three')]) {
      const late = store.write([put('a', 'three'), remove('b')], { expected: [expecting('b', 'new'), expected] });
      await expect(late).rejects.toMatchObject({
        name: 'RecordConflict',
        record: { collection: 'tags', key: expected.key },
      });
    }
    expect([await read('tags', 'a'), await read('tags', 'b')]).toEqual(['two', 'new']);
  });

  test('expects records that it does not change, and deletes what it expects', async () => {
    await store.put('tags', 'a', value('one'));
    await expect(store.write([], { expected: [expecting('a', 'two')] })).rejects.toThrow(RecordConflict);
    await store.write([remove('a'), put('b', 'two')], { expected: [expecting('a', 'one'), expecting('never there')] });
    expect([await read('tags', 'a'), await read('tags', 'b')]).toEqual([undefined, 'two']);
  });

  test('counts what has expired as absent', async () => {
    await store.put('tags', 'a', value('one'), { expiresAt: inSeconds(60) });
    await expect(store.write([put('a', 'two')], { expected: [expecting('a')] })).rejects.toThrow(RecordConflict);
    time += 60_000;
    await expect(store.write([put('a', 'two')], { expected: [expecting('a', 'one')] })).rejects.toThrow(RecordConflict);
    await store.write([put('a', 'two')], { expected: [expecting('a')], isVolatile: true });
    expect(await read('tags', 'a')).toBe('two');
  });

  test('a time to live begins with the write', async () => {
    await store.put('tags', 'a', value('one'), { ttlMs: 1000 });
    await store.write([{ kind: 'put', collection: 'tags', key: 'b', value: value('two'), ttlMs: 2000 }]);
    time += 999;
    expect(await store.list('tags', { limit: 10 })).toEqual(['a', 'b']);
    time += 1;
    expect(await store.list('tags', { limit: 10 })).toEqual(['b']);
    expect(await store.sweep()).toBe(1);
  });

  test('of many that expect the same, one at a time writes, and nothing is lost', async () => {
    // Each account is expected where it is read, and no money comes or goes.
    const accounts = ['a', 'b', 'c'];
    for (const key of accounts) await store.put('tags', key, value('100'));
    const transfer = fc.record({
      from: fc.constantFrom(...accounts),
      to: fc.constantFrom(...accounts),
      amount: fc.nat({ max: 60 }),
      isClaim: fc.boolean(),
    });
    const claims = new Map<string, number>();
    async function run({ from, to, amount, isClaim }: FuzzedValue<typeof transfer>, at: number): Promise<void> {
      const [before, after] = [(await read('tags', from)) ?? '', (await read('tags', to)) ?? ''];
      if (from === to || Number(before) < amount) return;
      const claim = `claim-${from}`;
      const changes = [put(from, `${Number(before) - amount}`), put(to, `${Number(after) + amount}`)];
      await store.write(isClaim ? [...changes, put(claim, `${at}`)] : changes, {
        expected: [expecting(from, before), expecting(to, after), ...(isClaim ? [expecting(claim)] : [])],
      });
      if (isClaim) claims.set(claim, (claims.get(claim) ?? 0) + 1);
    }
    await fc.assert(
      fc.asyncProperty(fc.array(transfer, { minLength: 2, maxLength: 12 }), async transfers => {
        claims.clear();
        for (const key of accounts) await store.delete('tags', `claim-${key}`);
        const results = await Promise.allSettled(transfers.map(run));
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(RecordConflict);
        const balances = await Promise.all(accounts.map(async key => Number(await read('tags', key))));
        expect(balances.reduce((sum, each) => sum + each)).toBe(300);
        expect(Math.min(...balances)).toBeGreaterThanOrEqual(0);
        for (const count of claims.values()) expect(count).toBe(1);
      }),
      { numRuns: 30 },
    );
  });

  test('of two that each expect what the other puts to be absent, one fails', async () => {
    for (let round = 0; round < 20; round += 1) {
      const [a, b] = [`a${round}`, `b${round}`];
      const results = await Promise.allSettled([
        store.write([put(a, 'one')], { expected: [expecting(b)] }),
        store.write([put(b, 'two')], { expected: [expecting(a)] }),
      ]);
      expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    }
  });

  test('what somebody writes without expecting anything is not overwritten by who expected what was there before', async () => {
    const rounds = Array.from({ length: 60 }, (_, round) => round);
    await Promise.all(rounds.map(round => round % 2 === 0 && store.put('tags', `${round}`, value('before'))));
    await Promise.all(
      rounds.map(async round => {
        const expected = [expecting(`${round}`, round % 2 === 0 ? 'before' : undefined)];
        await Promise.all([
          store.write([put(`${round}`, 'expecting')], { expected }).catch(() => {}),
          store.put('tags', `${round}`, value('without')),
        ]);
      }),
    );
    const entries = await store.entries('tags', { limit: 100 });
    expect(new Set(entries.map(entry => new TextDecoder().decode(entry.value)))).toEqual(new Set(['without']));
  });
}
