// Layers that came with requests, over a real folder and records in memory, with a clock of its own.
import { mkdtemp, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createBlobFiles } from '../../../src/content/blob-files.ts';
import { listContent } from '../../../src/content/inventory.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { ContentMismatch } from '../../../src/oci/verify.ts';
import { createTokenLayers, type LayerQuota, type TokenLayers } from '../../../src/pull/tokens/layers.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';

const HOUR = 3_600_000;
const START = Date.parse('2026-01-02T03:04:05.000Z');
const KIB = 1024;
const bytesOf = (text: string, size = 100) => new Uint8Array(Buffer.alloc(size, text));
const bytes = bytesOf('a layer');
const digest = digestOf(bytes);

let directory: string;
let records: RecordStore;
let nowMs: number;
let layers: TokenLayers;

beforeEach(async () => {
  nowMs = START;
  directory = await mkdtemp(join(tmpdir(), 'veneer-layers-'));
  records = createMemoryStore({ now: () => new Date(nowMs) });
  layers = await open();
});

afterEach(async () => {
  await layers.close();
  await rm(directory, { recursive: true });
});

function open(quota: Partial<LayerQuota> = {}): Promise<TokenLayers> {
  const all = { maxBytes: 100 * KIB, maxBytesPerAccount: 50 * KIB, ...quota };
  return createTokenLayers({ directory, records, now: () => new Date(nowMs), quota: all });
}

async function restart(quota: Partial<LayerQuota> = {}): Promise<void> {
  await layers.close();
  layers = await open(quota);
}

const keep = (layer: Uint8Array, ms = HOUR, account = 'alice') =>
  layers.store(layer, digestOf(layer), { until: new Date(START + ms), account });

async function read(wanted: Digest): Promise<Uint8Array | undefined> {
  const body = await layers.open(wanted);
  const found = await layers.find(wanted);
  const all = body && new Uint8Array(await new Response(body).arrayBuffer());
  expect(found?.size).toBe(all?.byteLength);
  return all;
}

async function listFiles(): Promise<readonly Digest[]> {
  return Array.fromAsync(listContent(directory));
}

test('are kept until they expire, and their files go with the next sweep', async () => {
  await keep(bytes);
  expect(await read(digest)).toEqual(bytes);
  await restart();
  nowMs = START + HOUR - 1;
  await layers.sweep();
  expect(await read(digest)).toEqual(bytes);
  nowMs = START + HOUR;
  expect(await read(digest)).toBeUndefined();
  await layers.sweep();
  expect([await listFiles(), await records.list('token-layer', { limit: 1 })]).toEqual([[], []]);
});

test.each([
  ['the longer first', [2 * HOUR, HOUR]],
  ['the longer last', [HOUR, 2 * HOUR]],
])('never have their expiry shortened by a keep at the same time, %s', async (_name, times) => {
  await Promise.all(times.map(ms => keep(bytes, ms)));
  nowMs = START + 2 * HOUR - 1;
  await layers.sweep();
  expect(await read(digest)).toEqual(bytes);
});

test('are refused where the bytes have another digest, which costs nobody anything', async () => {
  const other = digestOf(new Uint8Array([9]));
  const until = new Date(START + HOUR);
  for (let at = 0; at < 50; at++) {
    await expect(layers.store(bytesOf('x', 4000), other, { until, account: 'alice' })).rejects.toThrow(ContentMismatch);
  }
  expect([await layers.find(other), await records.list('token-layer', { limit: 1 })]).toEqual([undefined, []]);
  await keep(bytesOf('b', 50 * KIB));
});

test('of one caller have a part of the quota, of all callers the whole, and count once', async () => {
  await keep(bytesOf('a', 40 * KIB));
  await keep(bytesOf('a', 40 * KIB), HOUR, 'bob');
  await expect(keep(bytesOf('b', 20 * KIB))).rejects.toMatchObject({ status: 429, retryAfterSeconds: 600 });
  await keep(bytesOf('c', 50 * KIB), HOUR, 'bob');
  await expect(keep(bytesOf('d', 20 * KIB), HOUR, 'eve')).rejects.toMatchObject({ status: 507, code: 'UNAVAILABLE' });
  await restart();
  await expect(keep(bytesOf('d', 20 * KIB), HOUR, 'eve')).rejects.toMatchObject({ status: 507 });
  nowMs = START + HOUR;
  await layers.sweep();
  await keep(bytesOf('d', 50 * KIB), 2 * HOUR, 'eve');
});

test('take a block of the disk each, however small they are', async () => {
  const small = (at: number) => keep(bytesOf(`layer ${at} `, 50));
  for (let at = 0; at < 12; at++) await small(at);
  await expect(small(12)).rejects.toMatchObject({ status: 429 });
});

test('never have more bytes than the quota allows, regardless of who sends what at the same time', async () => {
  const sent = fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 30 }), fc.constantFrom('a', 'b', 'c')), {
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(sent, async all => {
      await Promise.allSettled(
        all.map(([name, size, account]) => keep(bytesOf(`${name} `, size * KIB), HOUR, account)),
      );
      const files = await listFiles();
      const sizes = await Promise.all(
        files.map(async file => (await layers.find(file))?.size ?? Number.POSITIVE_INFINITY),
      );
      expect(sizes.reduce((total, size) => total + size, 0)).toBeLessThanOrEqual(100 * KIB);
      nowMs += 2 * HOUR;
      await layers.sweep();
      nowMs = START;
      expect(await listFiles()).toEqual([]);
    }),
    { numRuns: 30 },
  );
});

test('that an older version kept in records are read until they expire', async () => {
  const packed = new Uint8Array(8 + bytes.byteLength);
  new DataView(packed.buffer).setFloat64(0, START + HOUR);
  packed.set(bytes, 8);
  await records.put('layer', digest, packed);
  expect(await read(digest)).toEqual(bytes);
  expect(await new Response((await layers.open(digest, { start: 2, end: 6 })) ?? null).text()).toBe('layer');
  nowMs = START + HOUR;
  expect(await read(digest)).toBeUndefined();
  nowMs = START;
  packed[20] = 0;
  await records.put('layer', digest, packed);
  expect(await read(digest)).toBeUndefined();
});

test('that a crash left without a record are removed by a sweep, a day after they came', async () => {
  await keep(bytes);
  await records.delete('token-layer', digest);
  await restart();
  const age = async (ms: number) => {
    const time = new Date(nowMs - ms);
    await utimes(createBlobFiles(directory).pathOf(digest), time, time);
    await layers.sweep();
  };
  await age(24 * HOUR - 1);
  expect(await listFiles()).toEqual([digest]);
  await age(24 * HOUR);
  expect(await listFiles()).toEqual([]);
});

test('that the disk lost are kept again, and count once', async () => {
  const large = bytesOf('a', 40 * KIB);
  await keep(large);
  for (let at = 0; at < 3; at++) {
    await layers.delete(digestOf(large));
    await keep(large, (at + 2) * HOUR);
    expect(await read(digestOf(large))).toEqual(large);
  }
  await keep(bytesOf('b', 10 * KIB));
});
