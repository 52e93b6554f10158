// Drafts: bytes that arrive in pieces, over several requests and restarts.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, rmdir, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBlobFiles } from '../../src/content/blob-files.ts';
import { createDiskStore } from '../../src/content/disk.ts';
import { listContent } from '../../src/content/inventory.ts';
import type { ContentStore } from '../../src/content/store.ts';
import {
  createUploadFile,
  createUploadFiles,
  type UploadFile,
  type UploadFiles,
} from '../../src/content/upload-files.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ContentMismatch } from '../../src/oci/verify.ts';

let directory: string;
let store: ContentStore;
let uploadFiles: UploadFiles;
const id = randomUUID();
const bytes = randomBytes(2_500_000);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-uploadFiles-'));
  store = await createDiskStore({ directory });
  uploadFiles = await createUploadFiles({ directory });
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

async function* piecesOf(content: Uint8Array, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < content.byteLength; start += size) yield content.subarray(start, start + size);
}

async function* brokenAfter(content: Uint8Array): AsyncGenerator<Uint8Array> {
  yield content;
  throw new Error('the client is gone');
}

const path = () => join(directory, 'drafts', id);

describe('a file that is held', () => {
  const small = bytes.subarray(0, 200_000);
  const create = (algorithm: 'sha256' | 'sha512' = 'sha256') => uploadFiles.create(id, algorithm, { isHeld: true });
  const isLast = true;

  test.each(['sha256', 'sha512'] as const)('is on disk only as content of its %s', async algorithm => {
    const file = await create('sha256');
    await file.append(piecesOf(small), { isLast });
    expect([file.size, await uploadFiles.list()]).toEqual([small.byteLength, []]);
    await file.commit(digestOf(small, algorithm));
    expect(small.equals((await store.read(digestOf(small, algorithm), bytes.length)) ?? Buffer.of())).toBe(true);
    expect(await uploadFiles.list()).toEqual([]);
  });

  test('may be empty', async () => {
    await (await create()).commit(digestOf(Buffer.of()));
    expect(await store.find(digestOf(Buffer.of()))).toEqual({ size: 0 });
  });

  test('tells the sums of its content', async () => {
    const sums: number[] = [];
    uploadFiles = await createUploadFiles({ directory, onCommitted: (_, { size }) => sums.push(size) });
    const file = await create();
    await file.append(piecesOf(small), { isLast });
    await file.commit(digestOf(small));
    expect(sums).toEqual([small.byteLength]);
  });

  test.each([
    ['kept', 0, (file: UploadFile) => file.keep?.()],
    ['given bytes that are not the last', 100, (file: UploadFile) => file.append(piecesOf(bytes.subarray(0, 100)))],
    ['given too many', 400_000, (file: UploadFile) => file.append(piecesOf(bytes.subarray(0, 400_000)), { isLast })],
    [
      'given bytes that break off',
      100,
      (file: UploadFile) => file.append(brokenAfter(bytes.subarray(0, 100)), { isLast }).catch(() => {}),
    ],
  ])('is on disk once it was %s, and continues there', async (_, size, work) => {
    const file = await create();
    await work(file);
    expect([file.size, (await stat(path())).size]).toEqual([size, size]);
    await file.append(piecesOf(bytes.subarray(size)), { isLast });
    await file.commit(digestOf(bytes));
    expect(bytes.equals((await store.read(digestOf(bytes), bytes.length)) ?? Buffer.of())).toBe(true);
  });

  test('keeps nothing of other bytes than the promised ones', async () => {
    const file = await create();
    await file.append(piecesOf(small), { isLast });
    await expect(file.commit(digestOf(bytes))).rejects.toBeInstanceOf(ContentMismatch);
    expect([await store.find(digestOf(bytes)), await uploadFiles.list()]).toEqual([undefined, []]);
  });

  test('is still held after a write that failed, and can be committed again', async () => {
    const file = await create();
    await file.append(piecesOf(small), { isLast });
    await mkdir(path());
    await expect(file.commit(digestOf(small))).rejects.toMatchObject({ code: 'EEXIST' });
    await rmdir(path());
    await file.commit(digestOf(small));
    expect(small.equals((await store.read(digestOf(small), bytes.length)) ?? Buffer.of())).toBe(true);
  });

  test('drops what arrived, before and after a commit that failed, and takes it again', async () => {
    let isAway = true;
    const { commit } = createBlobFiles(directory);
    uploadFiles = await createUploadFiles({
      directory,
      async commit(file, digest) {
        if (isAway) throw new Error('away');
        await commit(file, digest);
      },
    });
    const file = await create();
    await file.append(piecesOf(small), { isLast });
    await file.truncate(0);
    await file.append(piecesOf(small), { isLast });
    await expect(file.commit(digestOf(small))).rejects.toThrow('away');
    await file.truncate(0);
    isAway = false;
    await file.append(piecesOf(small), { isLast });
    await file.commit(digestOf(small));
    expect(small.equals((await store.read(digestOf(small), bytes.length)) ?? Buffer.of())).toBe(true);
  });
});

describe('a file', () => {
  test.each(['sha256', 'sha512'] as const)('becomes content of its %s, and is no file any more', async algorithm => {
    const file = await uploadFiles.create(id, algorithm);
    await file.append(piecesOf(bytes.subarray(0, 1_000_000)));
    await file.append(piecesOf(bytes.subarray(1_000_000)));
    expect(file.size).toBe(bytes.byteLength);
    const digest = digestOf(bytes, algorithm);
    await file.commit(digest);
    expect(bytes.equals((await store.read(digest, bytes.length)) ?? Buffer.of())).toBe(true);
    expect(await uploadFiles.list()).toEqual([]);
    expect(await uploadFiles.open(id, algorithm)).toBeUndefined();
  });

  test('becomes content of another algorithm than the one it was hashed with', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await file.append(piecesOf(bytes));
    await file.commit(digestOf(bytes, 'sha512'));
    expect(await store.find(digestOf(bytes, 'sha512'))).toEqual({ size: bytes.byteLength });
  });

  test('may be empty', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await file.commit(digestOf(Buffer.of()));
    expect(await store.find(digestOf(Buffer.of()))).toEqual({ size: 0 });
  });

  test('takes the place of equal content', async () => {
    await store.put(bytes);
    const file = await uploadFiles.create(id, 'sha256');
    await file.append(piecesOf(bytes));
    await file.commit(digestOf(bytes));
    expect(bytes.equals((await store.read(digestOf(bytes), bytes.length)) ?? Buffer.of())).toBe(true);
  });

  test('keeps nothing of other bytes than the promised ones, and stays as it was', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await file.append(piecesOf(bytes));
    await expect(file.commit(digestOf(Buffer.of(1)))).rejects.toBeInstanceOf(ContentMismatch);
    expect(await store.find(digestOf(Buffer.of(1)))).toBeUndefined();
    await file.commit(digestOf(bytes));
    expect(await store.find(digestOf(bytes))).toBeDefined();
  });

  test('keeps what arrived before its source broke, and continues from there', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await expect(file.append(brokenAfter(bytes.subarray(0, 100)))).rejects.toThrow('the client is gone');
    expect(file.size).toBe(100);
    await file.append(piecesOf(bytes.subarray(100)));
    await file.commit(digestOf(bytes));
    expect(await store.find(digestOf(bytes))).toEqual({ size: bytes.byteLength });
  });

  test.each([
    ['all', 0],
    ['a part', 1_000_000],
  ])('drops %s of what arrived, and takes it again', async (_, size) => {
    const file = await uploadFiles.create(id, 'sha256');
    await file.append(piecesOf(bytes.subarray(0, size)));
    await file.append(piecesOf(bytes.subarray(size)));
    await file.truncate(size);
    expect(file.size).toBe(size);
    await file.append(piecesOf(bytes.subarray(size)));
    await file.commit(digestOf(bytes));
    expect(await store.find(digestOf(bytes))).toEqual({ size: bytes.byteLength });
    await expect(file.truncate(1_000)).rejects.toThrow(/has become the content sha256:/);
    await file.truncate(0);
    await file.append(piecesOf(bytes));
    await file.commit(digestOf(bytes));
    expect(await store.find(digestOf(bytes))).toEqual({ size: bytes.byteLength });
  });

  test('continues after a restart, with a hash of the whole', async () => {
    await (await uploadFiles.create(id, 'sha256')).append(piecesOf(bytes.subarray(0, 1_000_000)));
    const reopened = await (await createUploadFiles({ directory })).open(id, 'sha256');
    expect(reopened?.size).toBe(1_000_000);
    await reopened?.append(piecesOf(bytes.subarray(1_000_000)));
    await expect(reopened?.commit(digestOf(bytes.subarray(1_000_000)))).rejects.toBeInstanceOf(ContentMismatch);
    await reopened?.commit(digestOf(bytes));
    expect(await store.find(digestOf(bytes))).toBeDefined();
  });

  test('is not kept when its file is not what was written', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await file.append(piecesOf(bytes));
    await truncate(path(), 10);
    await expect(file.commit(digestOf(bytes))).rejects.toThrow('10 on disk');
    expect(await store.find(digestOf(bytes))).toBeUndefined();
  });

  test('does not come back by an append when its file is gone', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await rm(path());
    await expect(file.append(piecesOf(bytes))).rejects.toThrow('ENOENT');
    expect(await uploadFiles.list()).toEqual([]);
  });

  test('is gone once discarded, and may be discarded again', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    await file.append(piecesOf(bytes));
    await uploadFiles.discard(id);
    await uploadFiles.discard(id);
    expect(await uploadFiles.open(id, 'sha256')).toBeUndefined();
  });

  test('tells when bytes came in last', async () => {
    await uploadFiles.create(id, 'sha256');
    await utimes(path(), new Date(0), new Date(86_400_000));
    expect(await uploadFiles.findTouched(id)).toEqual(new Date(86_400_000));
    expect(await uploadFiles.findTouched(randomUUID())).toBeUndefined();
  });

  test('pulls its source at the pace of the disk: no more than half a MiB and a piece ahead', async () => {
    const file = await uploadFiles.create(id, 'sha256');
    let pulled = 0;
    const ahead: number[] = [];
    async function* counted() {
      for await (const piece of piecesOf(bytes)) {
        ahead.push(pulled - file.size);
        pulled += piece.byteLength;
        yield piece;
      }
    }
    await file.append(counted());
    expect(Math.max(...ahead)).toBeLessThanOrEqual(512 * 1024 + 65_536);
    expect(file.size).toBe(bytes.byteLength);
  });
});

test.runIf(process.platform === 'linux')(
  'a file on a full disk is as long as its file, whatever was tried',
  async () => {
    const files = { pathOf: () => '', commit: async () => {} };
    const file = createUploadFile({ path: '/dev/full', size: 0, algorithm: 'sha256', receiving: { bytes: 0 }, files });
    await expect(file.append(piecesOf(bytes))).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(file.size).toBe(0);
  },
);

test.runIf(process.platform === 'linux')('bytes that could not be written do not count', async () => {
  const link = join(directory, 'link');
  await symlink('/dev/full', link);
  const files = { pathOf: () => '', commit: async () => {} };
  const file = createUploadFile({ path: link, size: 0, algorithm: 'sha256', receiving: { bytes: 0 }, files });
  await expect(file.append(piecesOf(bytes))).rejects.toMatchObject({ code: 'ENOSPC' });
  await rm(link);
  await writeFile(link, '');
  await file.append(piecesOf(bytes));
  await file.commit(digestOf(bytes));
  expect(file.size).toBe(bytes.byteLength);
});

test('a second file of the same id is refused, and a name that is no UUID is none', async () => {
  await uploadFiles.create(id, 'sha256');
  await expect(uploadFiles.create(id, 'sha256')).rejects.toThrow('EEXIST');
  await expect(uploadFiles.create('../blobs/x', 'sha256')).rejects.toThrow(TypeError);
  await writeFile(join(directory, 'drafts', 'other'), '');
  expect(await uploadFiles.list()).toEqual([id]);
});

test('the inventory lists all content and nothing else', async () => {
  const contents = Array.from({ length: 20 }, () => randomBytes(8));
  for (const content of contents) await store.put(content);
  const file = await uploadFiles.create(id, 'sha512');
  await file.append(piecesOf(bytes));
  await file.commit(digestOf(bytes, 'sha512'));
  await writeFile(join(directory, 'blobs', 'sha256', 'stray'), '');
  const listed = await Array.fromAsync(listContent(directory));
  const expected = [...contents.map(content => digestOf(content)), digestOf(bytes, 'sha512')];
  expect(listed.toSorted()).toEqual(expected.toSorted());
  expect(createHash('sha512').update(bytes).digest('hex')).toBe(listed.find(d => d.startsWith('sha512:'))?.slice(7));
  expect(await readdir(join(directory, 'drafts'))).toEqual([]);
});

describe('a small upload that is held in memory goes to the disk', () => {
  const onDisk = () => readdir(join(directory, 'drafts'));

  let ended: PromiseWithResolvers<void>;
  let requests: Promise<void>[];

  beforeEach(() => {
    ended = Promise.withResolvers<void>();
    requests = [];
  });

  afterEach(async () => {
    ended.resolve();
    await Promise.all(requests);
  });

  /** A request of these pieces, which ends with the test. */
  async function receive(pieces: readonly Uint8Array[]): Promise<void> {
    const file = await uploadFiles.create(randomUUID(), 'sha256', { isHeld: true });
    const { promise: all, resolve } = Promise.withResolvers<void>();
    const body = async function* () {
      yield* pieces;
      resolve();
      await ended.promise;
    };
    requests.push(file.append(body(), { isLast: true }));
    await all;
  }

  test('when its pieces are many', async () => {
    await receive(Array.from({ length: 60 }, () => Buffer.from('a')));
    expect(await onDisk()).toEqual([]);
    await receive(Array.from({ length: 70 }, () => Buffer.from('a')));
    await expect.poll(onDisk).toHaveLength(1);
  });

  test('when others hold much', async () => {
    for (let at = 0; at < 40; at += 1) await receive([Buffer.alloc(200 * 1024), Buffer.alloc(1024)]);
    expect(await onDisk()).toEqual([]);
    for (let at = 0; at < 10; at += 1) await receive([Buffer.alloc(200 * 1024), Buffer.alloc(1024)]);
    await expect.poll(async () => (await onDisk()).length).toBeGreaterThan(5);
  });
});
