// The disk store keeps the contract, and its files are where storage.md says.
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createDiskStore } from '../../src/content/disk.ts';
import { StorageFailure } from '../../src/content/store.ts';
import { digestHex, digestOf } from '../../src/oci/digest.ts';
import { contentStoreContract } from '../contract/content-store.ts';

describe('contract', () => {
  contentStoreContract(async () => {
    const directory = await mkdtemp(join(tmpdir(), 'veneer-content-'));
    return {
      open: () => createDiskStore({ directory }),
      // Every test ends without a temporary file, whatever became of its ingestions.
      async remove() {
        const leftovers = await readdir(join(directory, 'ingest'));
        await rm(directory, { recursive: true });
        expect(leftovers).toEqual([]);
      },
    };
  });
});

test('a body larger than the disk is refused before its first byte, and takes no room from others', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-content-'));
  const store = await createDiskStore({ directory });
  const bytes = Buffer.alloc(5_000_000, 'x');
  const digest = digestOf(bytes);
  const refused = store.ingest(new Blob([bytes]).stream(), { digest, size: 2 ** 52 });
  await expect(refused.begun).rejects.toBeInstanceOf(StorageFailure);
  await expect(refused.done).rejects.toBeInstanceOf(StorageFailure);
  expect(await store.ingest(new Blob([bytes]).stream(), { digest, size: bytes.length }).done).toMatchObject({ digest });
  await store.close();
  await rm(directory, { recursive: true });
});

describe('files', () => {
  let directory: string;
  const bytes = Buffer.from('hello');

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'veneer-content-'));
  });

  afterEach(() => rm(directory, { recursive: true }));

  test.each(['sha256', 'sha512'] as const)('are at blobs/%s/<2 hex>/<hex>', async algorithm => {
    const store = await createDiskStore({ directory });
    const digest = digestOf(bytes, algorithm);
    await store.ingest(new Blob([bytes]).stream(), { digest }).done;
    const hex = digestHex(digest);
    expect(await readFile(join(directory, 'blobs', algorithm, hex.slice(0, 2), hex))).toEqual(bytes);
    await store.close();
  });

  test('that a crash left behind are removed at the start, and content stays', async () => {
    const before = await createDiskStore({ directory });
    const digest = await before.put(bytes);
    await before.close();
    await mkdir(join(directory, 'ingest'), { recursive: true });
    await writeFile(join(directory, 'ingest', 'left'), 'half a blo');
    const after = await createDiskStore({ directory });
    expect(await readdir(join(directory, 'ingest'))).toEqual([]);
    expect(await after.find(digest)).toEqual({ size: 5 });
    await after.close();
  });

  test('that another machine is writing survive a start, and are removed when they are a day old', async () => {
    const one = await createDiskStore({ directory, isShared: true });
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const ingestion = one.ingest(readable);
    await writer.write(bytes.subarray(0, 2));
    await expect.poll(() => readdir(join(directory, 'ingest'))).toHaveLength(1);
    await mkdir(join(directory, 'ingest', '1'));
    const left = join(directory, 'ingest', '1', 'left');
    await writeFile(left, 'half a blo');
    const dayAgo = Date.now() / 1000 - 90_000;
    await utimes(left, dayAgo, dayAgo);
    const other = await createDiskStore({ directory, isShared: true });
    expect(await readdir(join(directory, 'ingest', '1'))).toEqual([]);
    await writer.write(bytes.subarray(2));
    await writer.close();
    const { digest } = await ingestion.done;
    expect(await other.find(digest)).toEqual({ size: 5 });
    await Promise.all([one.close(), other.close()]);
  });

  describe.runIf(process.platform === 'linux')('are closed', () => {
    // More than one read of a stream, so that it is left half way.
    const large = Buffer.alloc(5_000_000, 'x');
    const digest = digestOf(large);

    test('once the writer and all readers are done', async () => {
      const store = await createDiskStore({ directory });
      await store.put(large);
      const kept = await store.open(digest);
      const ingestion = store.ingest(new Blob([large]).stream(), { digest });
      const readers = [ingestion.open(), ingestion.open()];
      await ingestion.done;
      await Promise.all([kept, ...readers].map(reader => reader?.cancel()));
      const lie = store.ingest(new Blob(['lies!']).stream(), { digest, size: 5 });
      await expect(lie.done).rejects.toThrow();
      expect(await openFilesIn(directory)).toEqual([]);
      await store.close();
    });

    test.each([
      ['before it reads', 0],
      ['between two reads', 1],
      ['near the end', 19],
    ])('when a reader of kept content leaves %s', async (_, reads) => {
      const store = await createDiskStore({ directory });
      await store.put(large);
      const reader = (await store.open(digest))?.getReader();
      for (let read = 0; read < reads; read += 1) await reader?.read();
      await reader?.cancel();
      expect(await openFilesIn(directory)).toEqual([]);
      await store.close();
    });

    test.each([
      ['before it reads', false],
      ['while it waits for more', true],
    ])('when the reader of growing content leaves %s, and the writer ends', async (_, isWaiting) => {
      const store = await createDiskStore({ directory });
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      const ingestion = store.ingest(readable, { digest, size: large.length });
      const reader = ingestion.open().getReader();
      const read = isWaiting ? reader.read() : undefined;
      await writer.write(large.subarray(0, 100));
      await reader.cancel();
      expect((await read)?.done ?? true).toBe(true);
      await writer.write(large.subarray(100));
      await writer.close();
      await ingestion.done;
      expect(await openFilesIn(directory)).toEqual([]);
      await store.close();
    });

    test('when the store closes in the middle of an ingestion', async () => {
      const store = await createDiskStore({ directory });
      const ingestion = store.ingest(new ReadableStream({ start: controller => controller.enqueue(large) }));
      const reader = new Response(ingestion.open()).bytes();
      reader.catch(() => {});
      await ingestion.begun;
      await store.close();
      await expect(reader).rejects.toThrow('closing');
      expect(await openFilesIn(directory)).toEqual([]);
    });
  });
});

async function openFilesIn(directory: string): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd');
  const targets = await Promise.all(descriptors.map(fd => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return targets.filter(target => target.startsWith(directory));
}
