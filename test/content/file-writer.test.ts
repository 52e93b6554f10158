// Chunks that arrive during a write go out together, in order, and a disk that takes no more is heard of.
import { type FileHandle, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createFileWriter } from '../../src/content/file-writer.ts';

let directory: string;
let file: FileHandle;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-writer-'));
  file = await open(join(directory, 'file'), 'wx+');
});

afterEach(async () => {
  await file.close();
  await rm(directory, { recursive: true });
});

test('writes chunks in order, and several at once when they come faster than the disk takes them', async () => {
  const sizes: number[] = [];
  const writer = createFileWriter(file, { onWritten: size => sizes.push(size), onFailed });
  const chunks = Array.from({ length: 1000 }, (_, at) => Buffer.alloc(1000, at % 251));
  await Promise.all(chunks.map(chunk => writer.write(chunk)));
  await writer.flush();
  expect(Buffer.concat(chunks).equals(await readFile(join(directory, 'file')))).toBe(true);
  expect(sizes.at(-1)).toBe(1_000_000);
  expect(sizes.length).toBeLessThan(10);
});

test('writes a chunk that comes alone at once', async () => {
  const sizes: number[] = [];
  const writer = createFileWriter(file, { onWritten: size => sizes.push(size), onFailed });
  for (const chunk of ['one', 'two']) {
    await writer.write(Buffer.from(chunk));
    await writer.flush();
  }
  expect(sizes).toEqual([3, 6]);
});

test('takes no more than its limit ahead of the disk', async () => {
  let size = 0;
  const onWritten = (written: number) => {
    size = written;
  };
  const writer = createFileWriter(file, { onWritten, onFailed });
  for (let chunks = 1; chunks <= 64; chunks += 1) {
    await writer.write(Buffer.alloc(256 * 1024));
    expect(chunks * 256 * 1024 - size).toBeLessThanOrEqual(2 * 1024 * 1024);
  }
  await writer.flush();
});

test('syncs what it has written while it writes more, and has ended all of that when it is flushed', async () => {
  let [begun, ended] = [0, 0];
  const datasync = file.datasync.bind(file);
  file.datasync = async () => {
    begun += 1;
    await datasync();
    ended += 1;
  };
  const writer = createFileWriter(file, { onWritten: () => {}, onFailed, syncEveryBytes: 256 * 1024 });
  for (let chunks = 0; chunks < 64; chunks += 1) await writer.write(Buffer.alloc(256 * 1024));
  await writer.flush();
  expect(begun).toBeGreaterThan(0);
  expect(ended).toBe(begun);
});

test('says that a sync has failed, though the writes have not', async () => {
  const broken = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
  const failed = Promise.withResolvers<unknown>();
  file.datasync = () => Promise.reject(broken);
  const writer = createFileWriter(file, { onWritten: () => {}, onFailed: failed.resolve, syncEveryBytes: 1 });
  await writer.write(Buffer.from('one'));
  expect(await failed.promise).toBe(broken);
  await expect(writer.write(Buffer.from('two'))).rejects.toBe(broken);
  await expect(writer.flush()).rejects.toBe(broken);
});

test.runIf(process.platform === 'linux')(
  'says at once why the disk takes no more, and to each later chunk',
  async () => {
    const full = await open('/dev/full', 'r+');
    const failed = Promise.withResolvers<unknown>();
    const writer = createFileWriter(full, { onWritten: () => {}, onFailed: failed.resolve });
    await writer.write(Buffer.from('one'));
    expect(await failed.promise).toMatchObject({ code: 'ENOSPC' });
    await expect(writer.flush()).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(writer.write(Buffer.from('two'))).rejects.toMatchObject({ code: 'ENOSPC' });
    await full.close();
  },
);

function onFailed(error: unknown): never {
  throw error;
}
