// Which layers of rules stay in the layer store: those active, those that are held, and those that have just come.
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { createRuleLayerStore, type RuleLayerStore } from '../../src/rules/layers/layer-store.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import type { RecordStore } from '../../src/state/store.ts';

const HOUR = 3_600_000;

let directory: string;
let nowMs: number;
let records: RecordStore;
let layerStore: RuleLayerStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-shelf-'));
  nowMs = Date.UTC(2030, 0, 1);
  await open();
});

afterEach(async () => {
  await close();
  await rm(directory, { recursive: true });
});

async function open(): Promise<void> {
  const now = () => new Date(nowMs);
  records = createSqliteStore({ path: join(directory, 'records.db'), now });
  layerStore = await createRuleLayerStore({ directory: join(directory, 'rules'), records, now });
}

async function close(): Promise<void> {
  await layerStore.close();
  await records.close();
}

async function restart(): Promise<void> {
  await close();
  await open();
}

const put = async (text: string) => (await layerStore.put(new Blob([text]).stream())).digest;
const read = async (digest: Digest) => new Response(await layerStore.open(digest)).text();
const has = async (digest: Digest) => (await layerStore.find(digest)) !== undefined;
const sweep = (...inUse: readonly Digest[]) => layerStore.sweep(new Set(inUse));
const inHours = (hours: number) => new Date(nowMs + hours * HOUR);

test('what is put is read by its digest, whole or in part', async () => {
  const { digest, size } = await layerStore.put(new Blob(['a layer']).stream());
  expect([digest, size]).toEqual([digestOf(Buffer.from('a layer')), 7]);
  expect(await layerStore.find(digest)).toEqual({ size: 7 });
  expect(await read(digest)).toBe('a layer');
  expect(await new Response(await layerStore.open(digest, { start: 2, end: 4 })).text()).toBe('lay');
});

test('a layer in use stays, and another goes when its time has come', async () => {
  const [used, other] = [await put('1'), await put('2')];
  nowMs += HOUR - 1;
  await sweep(used);
  expect([await has(used), await has(other)]).toEqual([true, true]);
  nowMs += 1;
  await sweep(used);
  expect([await has(used), await has(other)]).toEqual([true, false]);
});

test('a held layer stays for as long, and over a restart', async () => {
  const digest = await put('1');
  await layerStore.lease([digest], inHours(48));
  await restart();
  nowMs += 48 * HOUR - 1;
  await sweep();
  expect(await has(digest)).toBe(true);
  nowMs += 1;
  await sweep();
  expect(await has(digest)).toBe(false);
});

test.each([
  ['a shorter one after it', [48, 2]],
  ['a shorter one before it', [2, 48]],
  ['both at once', [48, 2, 48, 2]],
])('the longest hold wins, with %s', async (name, hours) => {
  const digest = await put('1');
  if (name === 'both at once') await Promise.all(hours.map(each => layerStore.lease([digest], inHours(each))));
  else for (const each of hours) await layerStore.lease([digest], inHours(each));
  nowMs += 47 * HOUR;
  await sweep();
  expect(await has(digest)).toBe(true);
});

test('a layer that is not there cannot be held', async () => {
  const digest = await put('1');
  await layerStore.delete(digest);
  await expect(layerStore.lease([digest], inHours(1))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('who holds a layer while others are swept has it, or is told that it is gone', async () => {
  for (let round = 0; round < 50; round += 1) {
    const digest = await put(`${round}`);
    nowMs += HOUR;
    const until = inHours(1);
    const [held] = await Promise.allSettled([layerStore.lease([digest], until), sweep()]);
    expect(await has(digest)).toBe(held.status === 'fulfilled');
  }
});

test('what a crash left on its way in is gone after a restart, and what was whole is there', async () => {
  const digest = await put('1');
  await close();
  await writeFile(join(directory, 'rules/ingest/0f0f'), 'half a lay');
  await open();
  expect(await readdir(join(directory, 'rules/ingest'))).toEqual([]);
  expect(await read(digest)).toBe('1');
});

test('a body that breaks off leaves nothing', async () => {
  const broken = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.enqueue(Buffer.from('half'));
      controller.error(new Error('gone'));
    },
  });
  await expect(layerStore.put(broken)).rejects.toThrow('gone');
  expect(await has(digestOf(Buffer.from('half')))).toBe(false);
  expect(await readdir(join(directory, 'rules/ingest'))).toEqual([]);
});
