// Content in files: blobs/<algorithm>/<2 hex>/<hex>, written in ingest/ of the same file system. One process owns the directory.
import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Expected } from '../oci/verify.ts';
import { type BlobFiles, createBlobFiles, syncDirectory } from './blob-files.ts';
import { type FilePart, streamFile } from './file-stream.ts';
import { createFreeSpace, type Need, type SpaceClaim } from './free-space.ts';
import { createIngestion, type Slot } from './ingestion.ts';
import { isNoRoom } from './no-room.ts';
import { createOutgrown } from './outgrown.ts';
import { type ContentStore, ContentTooLarge, type Ingestion, type IngestOptions } from './store.ts';

export interface DiskStoreOptions {
  readonly directory: string;
  /** Claims a part of what all content may take, for a size as far as it is known. */
  readonly claimPlace?: ((need: Need) => SpaceClaim | undefined) | undefined;
  /** How long content that is for its readers goes on without any. */
  readonly unread?: UnreadLimits | undefined;
}

export interface UnreadLimits {
  /** Where nobody knows how much is to come. */
  readonly graceMs: number;
  /** Where that is known: whoever asked is likely to come again. */
  readonly finishMs: number;
}

/** Opens the store in `directory`, which is made if absent. What a crash left unfinished is removed. `close` fails the running ingestions. */
export async function createDiskStore({ directory, claimPlace, unread }: DiskStoreOptions): Promise<ContentStore> {
  await prepare(directory);
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  const files = createBlobFiles(directory);
  const claimSpace = createFreeSpace(directory);
  const outgrown = createOutgrown();

  const ingest: ContentStore['ingest'] = (body, expected, options) =>
    start(body, expected, {
      ...{ bytes: outgrown.needOf(expected), isExact: expected?.size !== undefined },
      ...options,
    });

  function start(
    body: ReadableStream<Uint8Array>,
    expected: Expected | undefined,
    { isForReaders = false, ...need }: Need & IngestOptions,
  ): Ingestion {
    const claims = [claimSpace(need.bytes), claimPlace?.(need)].filter(claim => claim !== undefined);
    const slot = createSlot(join(directory, 'ingest', randomUUID()), files, claims);
    const unreadMs = isForReaders ? (need.isExact ? unread?.finishMs : unread?.graceMs) : undefined;
    const ingestion = createIngestion({ body, expected, slot, signal: closing.signal, unreadMs });
    const { done } = ingestion;
    running.add(done);
    const forget = () => {
      running.delete(done);
      for (const claim of claims) claim.release();
    };
    done.then(forget, error => {
      forget();
      if (isNoRoom(error)) outgrown.note(expected, slot.wanted());
    });
    return ingestion;
  }

  return {
    async find(digest) {
      const stats = await orAbsent(stat(files.pathOf(digest)));
      return stats && { size: stats.size };
    },
    async open(digest, range, proof) {
      const file = await orAbsent(open(files.pathOf(digest)));
      const part = { start: range?.start ?? 0, end: range ? range.end + 1 : Number.POSITIVE_INFINITY };
      return file && streamPart(file, { ...part, proof });
    },
    async read(digest, maxBytes) {
      const file = await orAbsent(open(files.pathOf(digest)));
      return file && readSmall(file, maxBytes);
    },
    async put(bytes) {
      const { digest } = await start(streamOf(bytes), undefined, { bytes: bytes.byteLength, isExact: true }).done;
      return digest;
    },
    ingest,
    delete: digest => rm(files.pathOf(digest), { force: true }),
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

interface DiskSlot extends Slot {
  /** How many bytes there were to be when it was discarded. */
  wanted(): number;
}

function createSlot(temporary: string, files: BlobFiles, claims: readonly SpaceClaim[]): DiskSlot {
  let wanted = 0;
  return {
    async create() {
      for (const claim of claims) await claim.ensure();
      return open(temporary, 'wx+');
    },
    async grow(size) {
      wanted = size;
      for (const claim of claims) await claim.grow(size);
    },
    keep: digest => files.keep(temporary, digest),
    reopen: digest => open(files.pathOf(digest)),
    discard: () => rm(temporary, { force: true }),
    wanted: () => wanted,
  };
}

/** Of the open file: what its name leads to may be replaced meanwhile. */
async function readSmall(file: FileHandle, maxBytes: number): Promise<Uint8Array> {
  try {
    const { size } = await file.stat();
    if (size > maxBytes) throw new ContentTooLarge(`${size} bytes are kept, more than ${maxBytes}`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function streamPart(file: FileHandle, part: FilePart): Promise<ReadableStream<Uint8Array>> {
  try {
    const { size } = await file.stat();
    return streamFile(file, { ...part, end: Math.min(part.end, size) });
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
