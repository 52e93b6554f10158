// Lists all content of a disk store, or of a bucket, to find what is unneeded or damaged.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '../oci/digest.ts';
import { createBlobFiles, orAbsent } from './blob-files.ts';
import type { Bucket } from './bucket.ts';
import { createDiskStore, type DiskStore, type DiskStoreOptions } from './disk.ts';
import type { ContentStore } from './store.ts';

/** What content is used for. */
export const CONTENT_KINDS = ['hosted', 'cache', 'rules', 'tokens', 'contexts'] as const;

export type ContentKind = (typeof CONTENT_KINDS)[number];

/** A store, as far as listing and verifying goes. */
export interface StoredContent extends Pick<DiskStore, 'verify'>, Pick<Inventory, 'list' | 'listPart'> {
  readonly of: ContentKind;
}

const ALGORITHMS = ['sha256', 'sha512'] as const;

/** A store, with the list of what it has. */
export interface ListedStore {
  readonly content: ContentStore & Pick<DiskStore, 'verify'>;
  readonly inventory: Inventory;
  /** Absent where no other process has the content. */
  readonly holds?: Holds | undefined;
}

/** What keeps content of a store that several processes share. */
export interface Holds {
  /** Nobody removes the content from when it resolves, for this time; what is being removed is gone by then. */
  hold(digest: Digest, ms: number): Promise<void>;
  /** Runs `remove`, during which nobody can hold the content, unless it is held. */
  removeUnlessHeld(digest: Digest, remove: () => Promise<void>): Promise<void>;
}

export interface Inventory {
  /**
   * Digests in no particular order, read folder by folder. Content added or removed meanwhile may be listed or not. Other files are
   * ignored.
   */
  list(): AsyncIterable<Digest>;
  /** Those that are stored in the same folder as this one is, or would be: one of 256 parts for each algorithm, in no order. */
  listBeside(digest: Digest): Promise<readonly Digest[]>;
  /** Those whose hex begins with these two characters, in order: an even share of all content. */
  listPart(hex: string): Promise<readonly Digest[]>;
  /** When content was last stored, by the mtime of its file; undefined for what is not there. */
  findStoredAt(digest: Digest): Promise<Date | undefined>;
}

export async function openListedDisk(options: DiskStoreOptions): Promise<ListedStore> {
  return { content: await createDiskStore(options), inventory: createInventory(options.directory) };
}

export function createInventory(directory: string): Inventory {
  const { pathOf } = createBlobFiles(directory);
  return {
    list: () => listContent(directory),
    listBeside: async digest =>
      (await orAbsent(listFolder(directory, digestAlgorithm(digest), digestHex(digest).slice(0, 2)))) ?? [],
    listPart: hex => listPart(directory, hex),
    findStoredAt: async digest => (await stat(pathOf(digest), { throwIfNoEntry: false }))?.mtime,
  };
}

/** The same as the list of an inventory. */
export async function* listContent(directory: string): AsyncGenerator<Digest> {
  for (const algorithm of ALGORITHMS) {
    for (const folder of await listFolders(join(directory, 'blobs', algorithm))) {
      yield* await listFolder(directory, algorithm, folder);
    }
  }
}

async function listFolders(parent: string): Promise<readonly string[]> {
  const entries = await readdir(parent, { withFileTypes: true });
  // In order, as records are, so that what is listed one after the other is near each other there.
  return entries
    .filter(entry => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
}

async function listFolder(
  directory: string,
  algorithm: (typeof ALGORITHMS)[number],
  folder: string,
): Promise<readonly Digest[]> {
  const names = await readdir(join(directory, 'blobs', algorithm, folder));
  return names.map(name => `${algorithm}:${name}`).filter(isDigest);
}

async function listPart(directory: string, hex: string): Promise<readonly Digest[]> {
  const found = await Promise.all(ALGORITHMS.map(algorithm => orAbsent(listFolder(directory, algorithm, hex))));
  return found.flatMap(digests => digests ?? []).sort();
}

/** In a bucket, as on disk: `<folder>/blobs/<algorithm>/<2 hex>/<hex>`. */
export function bucketKey(folder: string, digest: Digest): string {
  const hex = digestHex(digest);
  return `${folder}/blobs/${digestAlgorithm(digest)}/${hex.slice(0, 2)}/${hex}`;
}

export function createBucketInventory(bucket: Pick<Bucket, 'find' | 'list'>, folder: string): Inventory {
  async function* list(prefix: string): AsyncGenerator<Digest> {
    for await (const { key } of bucket.list(prefix)) {
      const [, algorithm = '', , hex = ''] = key.slice(folder.length + 1).split('/');
      const digest = `${algorithm}:${hex}`;
      if (isDigest(digest) && bucketKey(folder, digest) === key) yield digest;
    }
  }

  return {
    async *list() {
      for (const algorithm of ALGORITHMS) yield* list(`${folder}/blobs/${algorithm}/`);
    },
    listBeside(digest) {
      const key = bucketKey(folder, digest);
      return Array.fromAsync(list(key.slice(0, key.lastIndexOf('/') + 1)));
    },
    async listPart(hex) {
      const parts = ALGORITHMS.map(algorithm => Array.fromAsync(list(`${folder}/blobs/${algorithm}/${hex}/`)));
      return (await Promise.all(parts)).flat().sort();
    },
    findStoredAt: async digest => (await bucket.find(bucketKey(folder, digest)))?.storedAt,
  };
}
