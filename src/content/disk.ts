// Content in files: blobs/<algorithm>/<2 hex>/<hex>, written in ingest/ of the same file system. One process owns the directory, or several
// of one service, each with its own folder of unfinished files, or several machines that share the file system.
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createMemory, type Memory } from '../memory.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import type { Expected } from '../oci/verify.ts';
import { type BlobFiles, createBlobFiles, orAbsent, syncDirectory } from './blob-files.ts';
import { createBlockSummer } from './block-sums.ts';
import { writeSynced } from './file-writer.ts';
import { createFreeSpace, createSizeHints, isDiskFull, type Need, type SpaceClaim } from './free-space.ts';
import { createIngestion, type StagedBlob, type UnreadPolicy } from './ingestion.ts';
import { type ContentStore, type Ingestion, type IngestOptions, StorageFailure, type VerifiedFile } from './store.ts';
import { createVerification, type Damage, type Verification } from './verification.ts';

export interface DiskStoreOptions {
  readonly directory: string;
  /** Whether other machines may write there: of unfinished files, only what a crash left a day ago is removed. */
  readonly isShared?: boolean | undefined;
  /** The folder of unfinished files, which is emptied. Default: `ingest`. Processes that share the directory have one each. */
  readonly staging?: string | undefined;
  /** What `prepareDisk` has returned for these. Default: it is called. */
  readonly prepared?: Promise<void> | undefined;
  /** Reserves part of the budget for all content, for a size as far as it is known. */
  readonly claimBudget?: ((need: Need) => SpaceClaim | undefined) | undefined;
  /** When to abandon content without readers. */
  readonly unread?: UnreadPolicy | undefined;
  /** Memory for cached checksums. Default: a little of its own. */
  readonly memory?: Pick<Memory, 'openCache'> | undefined;
  /** How many bytes of damaged content to set aside; absent: damaged content is deleted. */
  readonly maxDamagedBytes?: number | undefined;
  /** Called with content that was found damaged and set aside. */
  readonly onDamaged?: ((damage: Damage) => void) | undefined;
}

export interface DiskStore extends ContentStore {
  /** Hashes content, and sets it aside if damaged. Undefined for absent content. Throws the reason of the signal. */
  readonly verify: Verification['verify'];
  /** To be called when verified content was added by other means than this store, with its sums. */
  readonly noteVerified: Verification['note'];
  /** Makes a verified file of the same file system content: it is moved. */
  adopt(file: Pick<VerifiedFile, 'path' | 'digest'>): Promise<void>;
}

const OWN_MEMORY_BYTES = 8 * 1024 * 1024;

/** Opens the store in `directory`, which is created if absent. Removes unfinished files of a crash. `close` aborts running ingestions. */
export async function createDiskStore(options: DiskStoreOptions): Promise<DiskStore> {
  const { directory, claimBudget, unread, memory = createMemory(OWN_MEMORY_BYTES), maxDamagedBytes } = options;
  const { onDamaged = () => {}, staging = STAGING, isShared = false } = options;
  await (options.prepared ?? prepareDisk({ directory, staging, isShared }));
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  const files = createBlobFiles(directory, { maxDamagedBytes });
  const verification = createVerification({ files, memory, onDamaged });
  const claimSpace = createFreeSpace(directory);
  const sizeHints = createSizeHints();

  const ingest: ContentStore['ingest'] = (body, expected, options) =>
    start(body, expected, {
      ...{ bytes: sizeHints.needOf(expected), isExact: expected?.size !== undefined },
      ...options,
    });

  function start(
    body: ReadableStream<Uint8Array>,
    expected: Expected | undefined,
    { isForReaders = false, storeElsewhere, copyElsewhere, ...need }: Need & IngestOptions,
  ): Ingestion {
    const budget = storeElsewhere ? undefined : claimBudget?.(need);
    const claims = [claimSpace(need.bytes), budget].filter(claim => claim !== undefined);
    const temporary = join(directory, staging, randomUUID());
    const toOthers = storeElsewhere ?? copyElsewhere;
    const staged = createStagedBlob({ temporary, files, verification, toOthers }, claims);
    const { signal } = closing;
    const ingestion = createIngestion({ body, expected, staged, signal, unread: isForReaders ? unread : undefined });
    const { done } = ingestion;
    running.add(done);
    const forget = () => {
      running.delete(done);
      for (const claim of claims) claim.release();
    };
    done.then(forget, error => {
      forget();
      if (isDiskFull(error)) sizeHints.note(expected, staged.wanted());
    });
    return ingestion;
  }

  /** In few calls: it is written and synced at once. */
  async function putNow(bytes: Uint8Array, digest: Digest): Promise<Digest> {
    const temporary = join(directory, staging, randomUUID());
    const sums = createBlockSummer();
    sums.update(bytes);
    const need = { bytes: bytes.byteLength, isExact: true };
    const claims = [claimSpace(need.bytes), claimBudget?.(need)].filter(claim => claim !== undefined);
    try {
      closing.signal.throwIfAborted();
      for (const claim of claims) await claim.ensure();
      for (const claim of claims) await claim.grow(need.bytes);
      await writeSynced(temporary, [bytes]);
      await files.commit(temporary, digest);
      verification.note(digest, sums.finish());
      return digest;
    } catch (cause) {
      await rm(temporary, { force: true }).catch(() => {});
      throw new StorageFailure('the content store cannot store content', { cause });
    } finally {
      for (const claim of claims) claim.release();
    }
  }

  return {
    async find(digest) {
      const stats = await orAbsent(stat(files.pathOf(digest)));
      return stats && { size: stats.size };
    },
    open: verification.open,
    read: verification.read,
    verify: verification.verify,
    noteVerified: verification.note,
    adopt: ({ path, digest }) => files.commit(path, digest),
    put(bytes, algorithm = 'sha256') {
      const stored = putNow(bytes, digestOf(bytes, algorithm));
      const forget = () => void running.delete(stored);
      running.add(stored);
      stored.then(forget, forget);
      return stored;
    },
    ingest,
    // `rm` asks for the file first, and blocks the event loop for that.
    delete: async digest => orAbsent(unlink(files.pathOf(digest))),
    async close() {
      closing.abort(new Error('the content store is closing'));
      await Promise.allSettled(running);
    },
  };
}

/** In the directory of a store: unfinished content, in files or in folders of several processes. */
export const STAGING = 'ingest';

/** Longer than content may take to arrive. */
const ABANDONED_MS = 24 * 3_600_000;

/** Removes unfinished files of earlier processes. Where other machines write to the folder, those of a living one are spared by their age. */
export async function removeUnfinished(folder: string, { isShared }: { readonly isShared: boolean }): Promise<void> {
  if (!isShared) return rm(folder, { recursive: true, force: true });
  const entries = (await orAbsent(readdir(folder, { recursive: true, withFileTypes: true }))) ?? [];
  for (const entry of entries.filter(each => each.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const found = await stat(path, { throwIfNoEntry: false });
    if (found && found.mtimeMs + ABANDONED_MS < Date.now()) await rm(path, { force: true });
  }
}

/** Creates the directory of a store if it is absent, durably, and removes unfinished files of earlier processes. */
export async function prepareDisk({
  directory,
  staging = STAGING,
  isShared = false,
}: Pick<DiskStoreOptions, 'directory' | 'staging' | 'isShared'>): Promise<void> {
  await removeUnfinished(join(directory, isShared ? STAGING : staging), { isShared });
  const folders = [staging, 'blobs/sha256', 'blobs/sha512'].map(folder => join(directory, folder));
  await Promise.all(folders.map(folder => mkdir(folder, { recursive: true })));
  await Promise.all([join(directory, 'blobs'), directory].map(syncDirectory));
}

interface DiskStagedBlob extends StagedBlob {
  /** The expected size when it was discarded. */
  wanted(): number;
}

interface StagingFiles {
  readonly temporary: string;
  readonly files: BlobFiles;
  readonly verification: Pick<Verification, 'note'>;
  /** Called with the synced file before it becomes content here. */
  readonly toOthers: IngestOptions['storeElsewhere'];
}

function createStagedBlob(
  { temporary, files, verification, toOthers }: StagingFiles,
  claims: readonly SpaceClaim[],
): DiskStagedBlob {
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
    async commit(digest, sums) {
      await toOthers?.({ path: temporary, digest, size: sums.size });
      await files.commit(temporary, digest);
      verification.note(digest, sums);
    },
    reopen: digest => open(files.pathOf(digest)),
    discard: () => rm(temporary, { force: true }),
    wanted: () => wanted,
  };
}
