// The ledger over a real record store in memory, with a clock of its own.
import { beforeEach, describe, expect, test } from 'vitest';
import { createMemory } from '../../../src/memory.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { createLedger, type LedgerDeps, type TokenLedger, type TokenScope } from '../../../src/pull/tokens/ledger.ts';
import type { NewTokenRecord } from '../../../src/pull/tokens/record.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';

const memory = createMemory();

const HOUR = 3_600_000;
const START = Date.parse('2026-01-02T03:04:05.000Z');
const bytes = new TextEncoder().encode('a layer');
const digest = digestOf(bytes);
const asked: NewTokenRecord = {
  registry: 'docker.io',
  repository: 'library/alpine',
  tag: '3',
  containerImage: 'alpine:3',
  sourceDigest: digestOf(new Uint8Array([1])),
  targetDigest: digestOf(new Uint8Array([2])),
  augmentation: { layers: [], env: { A: 'b' }, attestations: 'drop' },
  layerSources: [{ digest, size: bytes.byteLength, kind: 'stored' }],
  request: { containerConfig: { env: ['A=b'] } },
};

let nowMs = START;
let kept: unknown[] = [];
const layers: LedgerDeps['layers'] = {
  store: async (...layer) => void kept.push(layer),
  requireSpace: async () => {},
};
let records: RecordStore;
let ledger: TokenLedger;

beforeEach(() => {
  nowMs = START;
  kept = [];
  // Never expires by itself, as a store whose clock is behind: the ledger must look at expiries too.
  records = createMemoryStore({ now: () => new Date(0) });
  ledger = createLedger({ memory, records, layers, now: () => new Date(nowMs), ttlMs: HOUR });
});

test('issues a record with a fresh id that lives for the ttl', async () => {
  const issued = await ledger.issue(asked);
  expect(issued).toMatchObject({
    ...asked,
    createdAt: '2026-01-02T03:04:05.000Z',
    expiresAt: '2026-01-02T04:04:05.000Z',
  });
  expect(issued.id).toMatch(/^[0-9a-f]{24}$/);
  expect((await ledger.issue(asked)).id).not.toBe(issued.id);
});

test('finds what it issued, also through another ledger over the same records', async () => {
  const issued = await ledger.issue(asked);
  const restarted = createLedger({ memory, records, layers, now: () => new Date(nowMs), ttlMs: 1 });
  expect(await restarted.find(issued.id)).toEqual(issued);
});

test('finds a token until it expires, and not from then on', async () => {
  const { id } = await ledger.issue(asked);
  nowMs = START + HOUR - 1;
  expect(await ledger.find(id)).toBeDefined();
  nowMs = START + HOUR;
  expect(await ledger.find(id)).toBeUndefined();
  expect(await ledger.revoke(id)).toBe(false);
});

test.each(['', '0123456789ab', '0123456789AB', '../token/x', '0123456789abc'])('finds nothing for "%s"', async id => {
  expect(await ledger.find(id)).toBeUndefined();
});

test('finds nothing where an id that is no id is the key of a whole record', async () => {
  const issued = await ledger.issue(asked);
  await records.put('token', 'not-an-id', new TextEncoder().encode(JSON.stringify(issued)));
  expect(await ledger.find('not-an-id')).toBeUndefined();
});

test.each(['{}', 'null'])('finds nothing for a record of another version, such as %s', async stored => {
  await records.put('token', '0123456789ab', new TextEncoder().encode(stored));
  expect(await ledger.find('0123456789ab')).toBeUndefined();
});

test('says that a damaged record cannot be read', async () => {
  await records.put('token', '0123456789ab', new TextEncoder().encode('{'));
  await expect(ledger.find('0123456789ab')).rejects.toThrow('the stored record token/0123456789ab cannot be read');
});

test('revokes a token once', async () => {
  const { id } = await ledger.issue(asked);
  expect(await ledger.revoke(id)).toBe(true);
  expect(await ledger.find(id)).toBeUndefined();
  expect(await ledger.revoke(id)).toBe(false);
});

test('keeps layers a little longer than a token that is issued now, on the account of who sent them', async () => {
  await ledger.keepLayers(new Map([[digest, bytes]]), 'alice');
  expect(kept).toEqual([[bytes, digest, { until: new Date(START + HOUR + 60_000), account: 'alice' }]]);
});

test('gives out no token where there is no room for one', async () => {
  const refusal = new Error('no room');
  const requireSpace = () => Promise.reject(refusal);
  const full = createLedger({
    memory,
    records,
    layers: { ...layers, requireSpace },
    now: () => new Date(nowMs),
    ttlMs: HOUR,
  });
  await expect(full.issue(asked)).rejects.toBe(refusal);
  expect(await records.list('token', { limit: 1 })).toEqual([]);
});

describe('lists', () => {
  const of = (caller: string, workflowId?: string): NewTokenRecord => ({
    ...asked,
    caller,
    request: { ...asked.request, ...(workflowId !== undefined && { workflowId }) },
  });
  const idsOf = async (scope: TokenScope, page: { readonly after?: string; readonly limit?: number } = {}) => {
    const { tokens, hasMore } = await ledger.list(scope, { limit: 1000, ...page });
    return { ids: tokens.map(({ id }) => id), hasMore };
  };
  const issue = async (count: number, record: NewTokenRecord) => {
    const ids: string[] = [];
    for (let i = 0; i < count; i += 1) ids.push((await ledger.issue(record)).id);
    return ids.sort();
  };

  test('are of a caller, of a workflow, of both, or of all, and come in pages', async () => {
    const ada = await issue(3, of('ada', 'wf'));
    const plain = await issue(1, of('ada'));
    const bob = await issue(2, of('bob', 'wf'));
    const nobody = await issue(1, of(''));
    expect(await idsOf({})).toEqual({ ids: [...ada, ...plain, ...bob, ...nobody].sort(), hasMore: false });
    expect(await idsOf({ caller: 'ada' })).toEqual({ ids: [...ada, ...plain].sort(), hasMore: false });
    expect(await idsOf({ workflow: 'wf' })).toEqual({ ids: [...ada, ...bob].sort(), hasMore: false });
    expect(await idsOf({ caller: 'ada', workflow: 'wf' })).toEqual({ ids: ada, hasMore: false });
    expect(await idsOf({ caller: 'eve', workflow: 'wf' })).toEqual({ ids: [], hasMore: false });
    expect(await idsOf({ caller: 'ada', workflow: 'wf' }, { limit: 2 })).toEqual({
      ids: ada.slice(0, 2),
      hasMore: true,
    });
    const after = ada[1] ?? '';
    expect(await idsOf({ caller: 'ada', workflow: 'wf' }, { after })).toEqual({ ids: ada.slice(2), hasMore: false });
  });

  test('read no more than they return, however many tokens others have', async () => {
    await issue(300, of('ada', 'theirs'));
    const own = await issue(2, of('bob', 'own'));
    await idsOf({});
    let read = 0;
    const counting: RecordStore = {
      ...records,
      async entries(collection, options) {
        const page = await records.entries(collection, options);
        read += page.length;
        return page;
      },
    };
    ledger = createLedger({ memory, records: counting, layers, now: () => new Date(nowMs), ttlMs: HOUR });
    expect((await idsOf({ caller: 'bob' })).ids).toEqual(own);
    expect((await idsOf({ workflow: 'own' })).ids).toEqual(own);
    expect(await ledger.revokeAll({ caller: 'bob', workflow: 'own' })).toBe(2);
    expect(read).toBe(6);
  });

  test('lack what has expired or was revoked, and have what was renewed', async () => {
    const workflow = { idleMs: HOUR / 2, maxMs: 2 * HOUR };
    ledger = createLedger({ memory, records, layers, now: () => new Date(nowMs), ttlMs: HOUR, workflow });
    const [revoked = '', kept = ''] = await issue(2, of('ada', 'wf'));
    await issue(1, of('ada', 'unused'));
    expect(await ledger.revoke(revoked)).toBe(true);
    nowMs = START + HOUR / 3;
    await ledger.find(kept);
    nowMs = START + HOUR / 2;
    for (const scope of [{}, { caller: 'ada' }, { workflow: 'wf' }]) expect((await idsOf(scope)).ids).toEqual([kept]);
  });

  test('have the tokens of an older version, which kept none', async () => {
    const ids = await issue(450, of('ada', 'wf'));
    for (const key of await records.list('token-list', { limit: 5000 })) await records.delete('token-list', key);
    ledger = createLedger({ memory, records, layers, now: () => new Date(nowMs), ttlMs: HOUR });
    expect((await idsOf({ caller: 'ada' })).ids).toEqual(ids);
    expect(await ledger.revokeAll({ caller: 'ada', workflow: 'wf' })).toBe(450);
    expect(await records.list('token', { limit: 1 })).toEqual([]);
    expect(await records.list('token-list', { limit: 10 })).toEqual(['complete']);
  });
});
