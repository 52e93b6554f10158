// The disk store keeps the contract, and its files are where storage.md says.
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createDiskStore } from '../../src/content/disk.ts';
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

  test.runIf(process.platform === 'linux')('are closed once the writer and all readers are done', async () => {
    const store = await createDiskStore({ directory });
    // More than one read of a stream, so that it is cancelled half way.
    const large = Buffer.alloc(5_000_000, 'x');
    const digest = await store.put(large);
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
});

async function openFilesIn(directory: string): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd');
  const targets = await Promise.all(descriptors.map(fd => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return targets.filter(target => target.startsWith(directory));
}
