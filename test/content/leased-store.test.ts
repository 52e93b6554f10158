// Which content stays: what something needs, what has just come, and what comes at this moment.
import { mkdtemp, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createBlobFiles } from '../../src/content/blob-files.ts';
import { createLeasedStore, type LeasedStore } from '../../src/content/leased-store.ts';
import type { Digest } from '../../src/oci/digest.ts';

const HOUR = 3_600_000;

let directory: string;
let nowMs: number;
let store: LeasedStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-swept-'));
  nowMs = Date.UTC(2030, 0, 1);
  mayDelete = true;
  store = await open();
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

let mayDelete: boolean;

function open(): Promise<LeasedStore> {
  return createLeasedStore({ directory, now: () => new Date(nowMs), mayDelete: () => mayDelete });
}

async function keep(text: string): Promise<Digest> {
  return (await store.ingest(new Blob([text]).stream()).done).digest;
}

const sweep = (...needed: readonly Digest[]) => store.sweep(async digest => needed.includes(digest));
const has = async (digest: Digest) => (await store.find(digest)) !== undefined;

test('one that is needed stays, and one that is not goes when its time has come', async () => {
  const [needed, other] = [await keep('1'), await keep('2')];
  nowMs += HOUR - 1;
  await sweep(needed);
  expect([await has(needed), await has(other)]).toEqual([true, true]);
  nowMs += 1;
  await sweep(needed);
  expect([await has(needed), await has(other)]).toEqual([true, false]);
});

test('nothing goes when the clock jumps while a sweep is under way', async () => {
  const digest = await keep('1');
  nowMs += 30 * 24 * HOUR;
  await store.sweep(async () => {
    mayDelete = false;
    return false;
  });
  expect(await has(digest)).toBe(true);
});

test('one that comes again has its time again', async () => {
  const digest = await keep('1');
  nowMs += HOUR;
  await keep('1');
  await sweep();
  expect(await has(digest)).toBe(true);
});

test('one that an earlier process left has its time from when its file came', async () => {
  const digest = await keep('1');
  await store.close();
  store = await open();
  const age = async (ms: number) => {
    const time = new Date(nowMs - ms);
    await utimes(createBlobFiles(directory).pathOf(digest), time, time);
    await sweep();
  };
  await age(HOUR - 1);
  expect(await has(digest)).toBe(true);
  await age(HOUR);
  expect(await has(digest)).toBe(false);
});

test('one that comes while it is looked at stays', async () => {
  const digest = await keep('1');
  nowMs += HOUR;
  await store.sweep(async () => {
    await keep('1');
    return false;
  });
  expect(await has(digest)).toBe(true);
});

test('one that is touchedUntil while it is looked at stays, and has its time again', async () => {
  const digest = await keep('1');
  nowMs += HOUR;
  const touchedUntil: Promise<boolean>[] = [];
  await store.sweep(async each => {
    touchedUntil.push(store.touch(each));
    return false;
  });
  expect([await Promise.all(touchedUntil), await has(digest)]).toEqual([[true], true]);
  nowMs += HOUR;
  await sweep();
  expect([await store.touch(digest), await has(digest)]).toEqual([false, false]);
});

test('who spares one that is going is told that it is gone', async () => {
  for (let at = 0; at < 50; at += 1) {
    const digest = await keep('1');
    nowMs += HOUR;
    let turns = at;
    const isThere = (async () => {
      while (turns-- > 0) await Promise.resolve();
      return store.touch(digest);
    })();
    await sweep();
    expect(await has(digest)).toBe(await isThere);
  }
});

test('nothing goes while something is on its way in, which may be the same', async () => {
  const digest = await keep('1');
  nowMs += HOUR;
  const bytes = await new Response(await store.open(digest)).bytes();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const { done } = store.ingest(readable);
  await sweep();
  expect(await has(digest)).toBe(true);
  await writer.write(bytes);
  await writer.close();
  expect((await done).digest).toBe(digest);
  await sweep();
  expect(await has(digest)).toBe(true);
});

test('what comes while the same is removed is there in the end', async () => {
  for (let at = 0; at < 50; at += 1) {
    const digest = await keep('1');
    nowMs += HOUR;
    const [again] = await Promise.all([keep('1'), sweep()]);
    expect([again, await has(digest)]).toEqual([digest, true]);
  }
});

test('one that breaks off on its way in holds nothing up', async () => {
  const digest = await keep('1');
  nowMs += HOUR;
  const broken = new ReadableStream<Uint8Array>({ start: controller => controller.error(new Error('gone')) });
  await expect(store.ingest(broken).done).rejects.toThrow('gone');
  await sweep();
  expect(await has(digest)).toBe(false);
});
