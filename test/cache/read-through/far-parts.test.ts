// Parts of a blob that a client asks for long before its transfer has them: passed on from a request of their own.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createTransfers } from '../../../src/cache/read-through/transfers.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import type { ByteRange } from '../../../src/oci/bytes.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { ContentMismatch } from '../../../src/oci/verify.ts';

const MIB = 2 ** 20;
const bytes = randomBytes(16 * MIB);
const digest = digestOf(bytes);
const size = bytes.length;
const begin = bytes.subarray(0, MIB);
const END: ByteRange = { start: size - 1000, end: size - 1 };

let directory: string;
let content: ContentStore;
let failures: unknown[];
/** Parts that were asked for, and what each is answered. */
let parts: ByteRange[];
let answer: (range: ByteRange) => ReadableStream<Uint8Array>;
/** Sends the rest of the whole. */
let finish: () => void;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-far-'));
  content = await createDiskStore({ directory });
  failures = [];
  parts = [];
  answer = range => streamOf(cut(range));
});

afterEach(async () => {
  finish();
  await content.close();
  await rm(directory, { recursive: true });
});

const cut = ({ start, end }: ByteRange) => bytes.subarray(start, end + 1);
const streamOf = (...chunks: Uint8Array[]) => ReadableStream.from(chunks);
/** To compare large buffers byte by byte takes minutes. */
const read = async (stream: ReadableStream<Uint8Array>) => digestOf(await buffer(stream));
const digestIn = (range: ByteRange) => digestOf(cut(range));

/** A transfer of which the first MiB has come. */
async function start() {
  const { promise, resolve } = Promise.withResolvers<void>();
  finish = resolve;
  async function* send() {
    yield begin;
    await promise;
    yield bytes.subarray(begin.length);
  }
  const transfers = createTransfers({
    content,
    onFailed: (_, error) => failures.push(error),
    onWrongPart: (_, error) => failures.push(error),
  });
  const blob = await transfers.join({
    key: 'a',
    digest,
    openBody: async () => ({ body: ReadableStream.from(send()), size }),
    async openPart(range) {
      parts.push(range);
      return answer(range);
    },
  });
  const isOver = () => transfers.find('a') === undefined;
  return { blob, isOver };
}

test('a part at the end comes before what lies between, and the transfer continues', async () => {
  const { blob, isOver } = await start();
  expect(await read(await blob.open(END))).toBe(digestIn(END));
  expect(parts).toEqual([END]);
  finish();
  await expect.poll(isOver).toBe(true);
  expect(await content.find(digest)).toEqual({ size });
  expect(failures).toEqual([]);
});

test.each([
  ['a part near what has come', { start: 3 * MIB, end: 3 * MIB + 9 }],
  ['more than half of the blob', { start: 6 * MIB, end: size - 1 }],
])('%s is the transfer’s', async (_, range) => {
  const { blob } = await start();
  const opened = await blob.open(range);
  finish();
  expect(await read(opened)).toBe(digestIn(range));
  expect(parts).toEqual([]);
});

test('in all no more than half of the blob is asked for twice', async () => {
  const { blob } = await start();
  const range = { start: size - 5 * MIB, end: size - 1 };
  await (await blob.open(range)).cancel();
  const second = await blob.open(range);
  expect(parts).toEqual([range]);
  finish();
  expect(await read(second)).toBe(digestIn(range));
});

test.each([
  ['ends early', () => streamOf(cut({ start: END.start, end: END.start + 99 }))],
  [
    'breaks',
    () =>
      ReadableStream.from(
        (async function* () {
          yield cut({ start: END.start, end: END.start + 99 });
          throw new Error('the connection was cut');
        })(),
      ),
  ],
  [
    'cannot be had',
    () => {
      throw new Error('no such range');
    },
  ],
])('where a part %s the transfer has the rest', async (_, how) => {
  answer = how;
  const { blob } = await start();
  const opened = read(await blob.open(END));
  await expect.poll(() => parts).toHaveLength(1);
  finish();
  expect(await opened).toBe(digestIn(END));
  expect(failures).toEqual([]);
});

test('a part with other bytes than the whole is reported', async () => {
  answer = ({ start, end }) => streamOf(Buffer.alloc(end + 1 - start));
  const { blob } = await start();
  expect(await read(await blob.open(END))).toBe(digestOf(Buffer.alloc(1000)));
  finish();
  await expect.poll(() => failures).toEqual([expect.any(ContentMismatch)]);
  expect(String(failures[0])).toContain('differ from those of the whole blob');
});
