// Content in files: blobs/<algorithm>/<2 hex>/<hex>, written in ingest/ of the same file system. One process owns the directory.
import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { streamFile } from './file-stream.ts';
import { createIngestion, type Slot } from './ingestion.ts';
import type { ContentStore, Ingestion } from './store.ts';

/** Opens the store in `directory`, which is made if absent. What a crash left unfinished is removed. `close` fails the running ingestions. */
export async function createDiskStore({ directory }: { readonly directory: string }): Promise<ContentStore> {
  await prepare(directory);
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  const pathOf = (digest: Digest) => blobPath(directory, digest);

  const ingest: ContentStore['ingest'] = (body, expected) => {
    const slot = createSlot(directory);
    return track(createIngestion({ body, expected, slot, signal: closing.signal }));
  };

  function track(ingestion: Ingestion): Ingestion {
    const { done } = ingestion;
    running.add(done);
    const forget = () => void running.delete(done);
    done.then(forget, forget);
    return ingestion;
  }

  return {
    async find(digest) {
      const stats = await orAbsent(stat(pathOf(digest)));
      return stats && { size: stats.size };
    },
    async open(digest, range) {
      const file = await orAbsent(open(pathOf(digest)));
      return file && streamRange(file, range?.start ?? 0, range ? range.end + 1 : Number.POSITIVE_INFINITY);
    },
    read: async digest => await orAbsent(readFile(pathOf(digest))),
    async put(bytes) {
      const { digest } = await ingest(streamOf(bytes)).done;
      return digest;
    },
    ingest,
    delete: digest => rm(pathOf(digest), { force: true }),
    async close() {
      closing.abort(new Error('the content store is closing'));
      await Promise.allSettled(running);
    },
  };
}

async function prepare(directory: string): Promise<void> {
  await rm(join(directory, 'ingest'), { recursive: true, force: true });
  for (const folder of ['ingest', 'blobs/sha256', 'blobs/sha512']) {
    await mkdir(join(directory, folder), { recursive: true });
  }
  await syncDirectory(join(directory, 'blobs'));
  await syncDirectory(directory);
}

function createSlot(directory: string): Slot {
  const temporary = join(directory, 'ingest', randomUUID());
  return {
    create: () => open(temporary, 'wx+'),
    async keep(digest) {
      const path = blobPath(directory, digest);
      const folder = dirname(path);
      const created = await mkdir(folder, { recursive: true });
      await rename(temporary, path);
      await syncDirectory(folder);
      if (created) await syncDirectory(dirname(folder));
    },
    reopen: digest => open(blobPath(directory, digest)),
    discard: () => rm(temporary, { force: true }),
  };
}

function blobPath(directory: string, digest: Digest): string {
  const hex = digestHex(digest);
  return join(directory, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
}

/** A rename is durable only when its directory is. */
async function syncDirectory(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function streamRange(file: FileHandle, start: number, end: number): Promise<ReadableStream<Uint8Array>> {
  try {
    const { size } = await file.stat();
    return streamFile(file, start, Math.min(end, size));
  } catch (error) {
    await file.close();
    throw error;
  }
}

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });
}

async function orAbsent<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
