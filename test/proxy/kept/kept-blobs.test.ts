// Kept blobs on their way out: verified once in a while, and had anew where they went between two looks.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createDiskStore } from '../../../src/content/disk.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import { digestHex, digestOf } from '../../../src/oci/digest.ts';
import { ContentMismatch } from '../../../src/oci/verify.ts';
import { createTransfers } from '../../../src/proxy/kept/blobs.ts';
import { createKeptBlobs } from '../../../src/proxy/kept/kept-blobs.ts';

const bytes = Buffer.from('the bytes of a layer');
const digest = digestOf(bytes);
const size = bytes.length;

let directory: string;
let content: ContentStore;
let damaged: unknown[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-kept-'));
  content = await createDiskStore({ directory });
  await content.put(bytes);
  damaged = [];
});

afterEach(async () => {
  await content.close();
  await rm(directory, { recursive: true });
});

const bodyOf = (raw: Uint8Array) => new Blob([Buffer.from(raw)]).stream();

async function damage(): Promise<void> {
  const hex = digestHex(digest);
  await writeFile(join(directory, 'blobs', 'sha256', hex.slice(0, 2), hex), 'the bytes of a lawyer'.slice(0, size));
}

function keptBlob(getAnew = () => Promise.reject(new Error('asked for anew'))) {
  return createKeptBlobs({ content, onDamaged: (_, error) => damaged.push(error) })({ digest, size, getAnew });
}

describe('a kept blob', () => {
  test('is read from the store, whole and in part', async () => {
    const blob = keptBlob();
    expect(blob.size).toBe(size);
    expect(await text(await blob.open())).toBe(`${bytes}`);
    expect(await text(await blob.open({ start: 4, end: 8 }))).toBe('bytes');
    expect(damaged).toEqual([]);
  });

  test('that has gone since it was found is had anew, in part too', async () => {
    const anew = { open: async () => bodyOf(Buffer.from('from where it came')) };
    const blob = createKeptBlobs({ content, onDamaged() {} })({ digest, size, getAnew: async () => anew });
    await content.delete(digest);
    expect(await text(await blob.open())).toBe('from where it came');
  });

  test('that is damaged is never read to its end, and is kept no more', async () => {
    await damage();
    await expect(text(await keptBlob().open())).rejects.toBeInstanceOf(ContentMismatch);
    expect(await content.find(digest)).toBeUndefined();
    expect(damaged).toEqual([expect.any(ContentMismatch)]);
  });

  test('is verified once for all who read it at the time, and not again soon', async () => {
    let opened = 0;
    const open: ContentStore['open'] = (...args) => {
      opened += 1;
      return content.open(...args);
    };
    const kept = createKeptBlobs({ content: { ...content, open }, onDamaged() {} });
    const read = async () => text(await kept({ digest, size, getAnew: () => Promise.reject(new Error()) }).open());
    expect(await Promise.all([read(), read(), read()])).toEqual([`${bytes}`, `${bytes}`, `${bytes}`]);
    expect(opened).toBe(4);
    await read();
    expect(opened).toBe(5);
  });

  test('that is damaged breaks off for all who read it at the time', async () => {
    await damage();
    const blob = keptBlob();
    const read = async () => text(await blob.open());
    const results = await Promise.allSettled([read(), read(), read()]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(damaged).toEqual([expect.any(ContentMismatch)]);
  });

  test('that is damaged is kept no more, though its reader has left', async () => {
    await damage();
    const found = Promise.withResolvers<void>();
    const kept = createKeptBlobs({ content, onDamaged: () => found.resolve() });
    const stream = await kept({ digest, size, getAnew: () => Promise.reject(new Error()) }).open();
    await stream.cancel();
    await found.promise;
    expect(await content.find(digest)).toBeUndefined();
  });

  test('may be left half read', async () => {
    const stream = await keptBlob().open();
    await stream.cancel();
    expect(await content.find(digest)).toEqual({ size });
  });
});

test('a transfer that has ended is read from the store, and anew where it is there no more', async () => {
  await content.delete(digest);
  let done: Promise<unknown> | undefined;
  const ingest: ContentStore['ingest'] = (body, expected) => {
    const ingestion = content.ingest(body, expected);
    done = ingestion.done;
    return ingestion;
  };
  const onFailed = (_: unknown, error: unknown) => damaged.push(error);
  const transfers = createTransfers({ content: { ...content, ingest }, onFailed });
  let opened = 0;
  const openBody = async () => {
    opened += 1;
    return { body: bodyOf(bytes), size };
  };
  const blob = await transfers({ key: 'a', digest, openBody });
  expect(await text(await blob.open())).toBe(`${bytes}`);
  await done;
  expect(await text(await blob.open({ start: 0, end: 2 }))).toBe('the');
  expect(opened).toBe(1);
  await content.delete(digest);
  expect(await text(await blob.open({ start: 4, end: 8 }))).toBe('bytes');
  expect(opened).toBe(2);
  expect(damaged).toEqual([]);
});
