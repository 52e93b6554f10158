// What a disk store gives of content that the disk has damaged: never all of it, in no part of it, and nothing any more once that is known.
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBlobFiles } from '../../src/content/blob-files.ts';
import { createDiskStore, type DiskStore, type DiskStoreOptions } from '../../src/content/disk.ts';
import type { Damage } from '../../src/content/verification.ts';
import type { ByteRange } from '../../src/oci/bytes.ts';
import { type Digest, digestHex, digestOf } from '../../src/oci/digest.ts';
import { ContentMismatch } from '../../src/oci/verify.ts';

let directory: string;
let store: DiskStore;
let damages: Damage[];

async function open(options: Partial<DiskStoreOptions> = {}): Promise<void> {
  await store?.close();
  damages = [];
  store = await createDiskStore({ directory, onDamaged: damage => damages.push(damage), ...options });
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-rot-'));
  await open();
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

const pathOf = (digest: Digest) => join(directory, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));

async function flip(digest: Digest, at: number): Promise<void> {
  const raw = await readFile(pathOf(digest));
  raw[at] = (raw[at] ?? 0) ^ 1;
  await writeFile(pathOf(digest), raw);
}

/** What was given, and whether it ended well. */
async function read(digest: Digest, range?: ByteRange): Promise<{ readonly given: Buffer; readonly error?: unknown }> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of (await store.open(digest, range)) ?? []) chunks.push(chunk.slice());
    return { given: Buffer.concat(chunks) };
  } catch (error) {
    return { given: Buffer.concat(chunks), error };
  }
}

const KNOWN = ['that was verified as it came', async () => {}] as const;
/** As all memory may, where there is need of it. */
const forgetful = { openCache: () => ({ get: () => undefined, has: () => false, set() {}, delete() {} }) };
const FORGOTTEN = ['whose sums are always forgotten', () => open({ memory: forgetful })] as const;
const UNKNOWN = ['that this process has not verified yet', () => open()] as const;

// Less than a block, one block, a few with a shorter last one, and many of which the last is whole.
const SIZES = [20, 65_536, 300_000, 20 * 65_536];
const partsOf = (size: number) => [0, Math.floor(size / 2), size - 1];

describe.each([KNOWN, UNKNOWN, FORGOTTEN])('content %s', (_, forget) => {
  test.each(SIZES)('is read as it came, whole and in any part: of %d bytes', async size => {
    const bytes = randomBytes(size);
    const digest = await store.put(bytes);
    await forget();
    expect((await read(digest)).given.equals(bytes)).toBe(true);
    for (const start of [0, 1, 65_535, 65_536, 65_537, size - 1].filter(at => at < size)) {
      for (const end of [start, start + 1, 65_535, 65_536, 131_071, size - 1, size + 5].filter(at => at >= start)) {
        await forget();
        const { given, error } = await read(digest, { start, end });
        expect([start, end, error, given.equals(bytes.subarray(start, end + 1))]).toEqual([
          start,
          end,
          undefined,
          true,
        ]);
      }
    }
    expect(damages).toEqual([]);
  });

  test.each(SIZES.flatMap(size => partsOf(size).map(at => [size, at])))(
    'with one bit turned is never read to its end: of %d bytes, at %d',
    async (size, at) => {
      const bytes = randomBytes(size);
      for (const range of [
        undefined,
        { start: 0, end: size - 1 },
        { start: at, end: at },
        { start: at, end: size - 1 },
      ]) {
        const digest = await store.put(bytes);
        await forget();
        await flip(digest, at);
        const { given, error } = await read(digest, range);
        const wanted = bytes.subarray(range?.start, range && range.end + 1);
        expect(given.byteLength).toBeLessThan(wanted.byteLength);
        if (forget === KNOWN[1]) expect(given.equals(wanted.subarray(0, given.byteLength))).toBe(true);
        if (given.byteLength > 0 || size > 65_536) expect(error).toBeInstanceOf(ContentMismatch);
        expect(await store.find(digest)).toBeUndefined();
        expect(await store.open(digest, range)).toBeUndefined();
        expect(damages).toMatchObject([{ digest, size, setAside: undefined }]);
        damages.length = 0;
      }
    },
  );

  test.each([
    ['cut short', (path: string, size: number) => truncate(path, size - 1)],
    ['emptied', (path: string) => truncate(path, 0)],
    ['longer', (path: string, size: number) => truncate(path, size + 1)],
  ])('that is %s is never read to its end', async (_, harm) => {
    for (const size of SIZES) {
      const bytes = randomBytes(size);
      for (const range of [undefined, { start: 0, end: 3 }]) {
        const digest = await store.put(bytes);
        await forget();
        await harm(pathOf(digest), size);
        const { given, error } = await read(digest, range);
        expect(given.byteLength > 0 && error === undefined).toBe(false);
        expect(given.byteLength).toBeLessThanOrEqual(range ? 3 : size);
        expect(await store.find(digest)).toBeUndefined();
      }
    }
  });

  test('that is read whole at once is verified, too', async () => {
    const digest = await store.put(randomBytes(300_000));
    await forget();
    await flip(digest, 7);
    expect(await store.read(digest, 300_000)).toBeUndefined();
    expect(damages).toMatchObject([{ digest }]);
  });

  test('and damaged breaks off for all who read it at the time, and is reported once', async () => {
    const digest = await store.put(randomBytes(300_000));
    await forget();
    await flip(digest, 299_999);
    const results = await Promise.all(Array.from({ length: 20 }, () => read(digest)));
    expect(results.filter(({ given }) => given.byteLength === 300_000)).toEqual([]);
    expect(damages).toHaveLength(1);
  });

  test('is right again once it came again', async () => {
    const bytes = randomBytes(300_000);
    const digest = await store.put(bytes);
    await forget();
    await flip(digest, 100_000);
    await read(digest);
    await store.put(bytes);
    expect((await read(digest)).given.equals(bytes)).toBe(true);
  });

  test('is read to its end by who has begun, though it is deleted', async () => {
    const bytes = randomBytes(2_000_000);
    const digest = await store.put(bytes);
    await forget();
    const streams = await Promise.all(Array.from({ length: 6 }, () => store.open(digest)));
    await store.delete(digest);
    for (const stream of streams) expect(stream && (await buffer(stream)).equals(bytes)).toBe(true);
    expect(damages).toEqual([]);
  });
});

test('a part that was not damaged is read from content that was verified', async () => {
  const bytes = randomBytes(300_000);
  const digest = await store.put(bytes);
  await flip(digest, 299_999);
  expect((await read(digest, { start: 0, end: 99_999 })).given.equals(bytes.subarray(0, 100_000))).toBe(true);
});

test('a reader who has left keeps nobody from finding the damage', async () => {
  const digest = await store.put(randomBytes(3_000_000));
  await open();
  await flip(digest, 2_999_999);
  const found = Promise.withResolvers<void>();
  await open({ onDamaged: () => found.resolve() });
  const stream = await store.open(digest);
  await stream?.cancel();
  await found.promise;
  expect(await store.find(digest)).toBeUndefined();
});

describe('verifying', () => {
  test('says what is intact, what is damaged, and what is not there', async () => {
    const [a, b] = [await store.put(randomBytes(100)), await store.put(randomBytes(1_000_000))];
    await flip(b, 500_000);
    expect(await store.verify(a)).toEqual({ size: 100, isIntact: true });
    expect(await store.verify(b)).toEqual({ size: 1_000_000, isIntact: false });
    expect(await store.verify(b)).toBeUndefined();
    expect(damages).toMatchObject([{ digest: b, reason: expect.stringContaining('the bytes have digest') }]);
  });

  test('stops with its signal, and keeps to a pace', async () => {
    const digest = await store.put(randomBytes(1_000_000));
    const stop = new AbortController();
    const paced: number[] = [];
    const limitRate = async (bytes: number) => {
      paced.push(bytes);
      if (paced.length === 2) stop.abort(new Error('enough'));
    };
    await expect(store.verify(digest, { limitRate, signal: stop.signal })).rejects.toThrow('enough');
    expect(paced).toEqual([262_144, 262_144]);
    expect(await store.find(digest)).toBeDefined();
  });
});

describe('damaged content', () => {
  const kept = async () => (await readdir(join(directory, 'damaged'))).toSorted();

  test('is set aside as it is, the oldest of it within a bound', async () => {
    await open({ maxDamagedBytes: 250 });
    const digests: Digest[] = [];
    for (const size of [100, 101, 102, 1000]) {
      const digest = await store.put(randomBytes(size));
      digests.push(digest);
      await flip(digest, 0);
      await store.verify(digest);
      const [damage] = damages.splice(0);
      expect(damage).toMatchObject({
        digest,
        size,
        setAside: join(directory, 'damaged', `sha256-${digestHex(digest)}`),
      });
      expect((await stat(damage?.setAside ?? '')).size).toBe(size);
      // The last one stays whatever its size, and nothing beside one that is larger than all may be.
      const left = size === 1000 ? digests.slice(-1) : digests.slice(-2);
      expect(await kept()).toEqual(left.map(each => `sha256-${digestHex(each)}`).toSorted());
    }
  });

  test('is not confused with what has come in its place', async () => {
    const bytes = randomBytes(100);
    const digest = digestOf(bytes);
    const files = createBlobFiles(directory, { maxDamagedBytes: 1000 });
    await store.put(bytes);
    const { ino } = await stat(pathOf(digest));
    expect(await files.setAside(digest, ino + 1)).toBeUndefined();
    expect((await read(digest)).given.equals(bytes)).toBe(true);
    expect(await kept()).toEqual([]);
  });
});
