// Paths of content on disk, blobs/<algorithm>/<2 hex>/<hex>, and the moves of finished files into place. Damaged files are moved to
// damaged/<algorithm>-<hex>.
import { closeSync, fsync, open } from 'node:fs';
import { link, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';

export interface BlobFiles {
  pathOf(digest: Digest): string;
  /** Moves a synced file to the path of its digest, replacing what is there; durable when it resolves. */
  commit(file: string, digest: Digest): Promise<void>;
  /**
   * Moves the file with this inode away from the path of its digest, and returns its new path: undefined where damaged files are deleted.
   * Returns undefined where another file, or none, is there by now.
   */
  setAside(digest: Digest, inode: number): Promise<{ readonly path: string | undefined } | undefined>;
}

const MAX_DAMAGED = 1_000;

/** For the content in `directory`, whose `blobs` folder exists. */
export function createBlobFiles(
  directory: string,
  {
    maxDamagedBytes,
  }: {
    /** Damaged files are retained up to this many bytes, the last one whatever its size; absent: none are retained. */
    readonly maxDamagedBytes?: number | undefined;
  } = {},
): BlobFiles {
  const damaged = join(directory, 'damaged');
  const durable = new Map<string, Promise<void>>();
  const pathOf = (digest: Digest) => {
    const hex = digestHex(digest);
    return join(directory, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  };

  /** Once per folder and process, even for existing folders: they may be too new to be durable. */
  function ensureFolder(folder: string): Promise<void> {
    const ensured = durable.get(folder) ?? makeFolder(folder);
    durable.set(folder, ensured);
    ensured.catch(() => durable.delete(folder));
    return ensured;
  }

  return {
    pathOf,
    async commit(file, digest) {
      const path = pathOf(digest);
      const folder = dirname(path);
      await ensureFolder(folder);
      await rename(file, path);
      await syncDirectory(folder);
    },
    async setAside(digest, inode) {
      const path = pathOf(digest);
      const aside = join(damaged, `${digestAlgorithm(digest)}-${digestHex(digest)}`);
      await mkdir(damaged, { recursive: true });
      const moved = await orAbsent(rename(path, aside).then(() => stat(aside)));
      if (moved && moved.ino !== inode) await putBack(aside, path);
      if (!moved || moved.ino !== inode) return undefined;
      await syncDirectory(dirname(path));
      if (maxDamagedBytes === undefined) await rm(aside, { force: true });
      else await dropOldest(damaged, maxDamagedBytes);
      return { path: maxDamagedBytes === undefined ? undefined : aside };
    },
  };
}

/** Puts back a file that had replaced the damaged one. If yet another has arrived meanwhile, that is just as good. */
async function putBack(aside: string, path: string): Promise<void> {
  await link(aside, path).catch(error => {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  });
  await rm(aside, { force: true });
}

async function dropOldest(folder: string, maxBytes: number): Promise<void> {
  const names = await readdir(folder);
  const files = await Promise.all(
    names.map(async name => ({ path: join(folder, name), stats: await orAbsent(stat(join(folder, name))) })),
  );
  files.sort((a, b) => (b.stats?.ctimeMs ?? 0) - (a.stats?.ctimeMs ?? 0));
  let bytes = 0;
  for (const [at, { path, stats }] of files.entries()) {
    bytes += stats?.size ?? 0;
    if (at > 0 && (bytes > maxBytes || at >= MAX_DAMAGED)) await rm(path, { force: true });
  }
}

/** Undefined where there is no such file. */
export async function orAbsent<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await syncDirectory(dirname(folder));
}

const openFolder = promisify(open);
const syncFolder = promisify(fsync);

/** A rename is durable only when its directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const folder = await openFolder(path, 'r');
  try {
    await syncFolder(folder);
  } finally {
    // Waits for nothing.
    closeSync(folder);
  }
}
