// Kept blobs on their way out: had again where they were damaged, or went between two looks.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cachedBlob } from '../../../src/cache/read-through/cached.ts';
import { createTransfers } from '../../../src/cache/read-through/transfers.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import type { ByteRange } from '../../../src/oci/bytes.ts';
import { type Digest, digestHex, digestOf } from '../../../src/oci/digest.ts';

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

const pathOf = (of: Digest) => join(directory, 'blobs', 'sha256', digestHex(of).slice(0, 2), digestHex(of));

const bodyOf = (raw: Uint8Array) => new Blob([Buffer.from(raw)]).stream();

describe('a kept blob', () => {
  const kept = (blob: Parameters<typeof cachedBlob>[1]) => cachedBlob(content, blob);
  const nothing = () => Promise.reject(new Error('asked for anew'));

  test('is read from the store, whole and in part', async () => {
    const blob = kept({ digest, size, refetch: nothing });
    expect(blob.size).toBe(size);
    expect(await text(await blob.open())).toBe(`${bytes}`);
    expect(await text(await blob.open({ start: 4, end: 8 }))).toBe('bytes');
  });

  test.each([
    ['has gone since it was found', () => content.delete(digest)],
    ['is damaged', () => writeFile(pathOf(digest), 'the bytes of a lawyer'.slice(0, size))],
  ])('that %s is had again, in part too', async (_, harm) => {
    const ranges: (ByteRange | undefined)[] = [];
    const anew = {
      async open(range?: ByteRange) {
        ranges.push(range);
        return bodyOf(bytes);
      },
    };
    const blob = kept({ digest, size, refetch: async () => anew });
    await harm();
    expect(await text(await blob.open())).toBe(`${bytes}`);
    expect(await text(await blob.open({ start: 4, end: 8 }))).toBe(`${bytes}`);
    expect(ranges).toEqual([undefined, { start: 4, end: 8 }]);
    expect(await content.find(digest)).toBeUndefined();
  });

  test('may be left half read', async () => {
    const stream = await kept({ digest, size, refetch: nothing }).open();
    await stream.cancel();
    expect(await content.find(digest)).toEqual({ size });
  });
});

test('a transfer that has ended is read from the store, and again where it is there no more', async () => {
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
  const blob = await transfers.join({ key: 'a', digest, openBody });
  expect(await text(await blob.open())).toBe(`${bytes}`);
  await done;
  expect(await text(await blob.open({ start: 0, end: 2 }))).toBe('the');
  expect(opened).toBe(1);
  await content.delete(digest);
  expect(await text(await blob.open({ start: 4, end: 8 }))).toBe('bytes');
  expect(opened).toBe(2);
  expect(damaged).toEqual([]);
});
