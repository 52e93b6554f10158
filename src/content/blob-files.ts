// Where a digest's bytes lie on disk, and how a finished file gets there: blobs/<algorithm>/<2 hex>/<hex>.
import { mkdir, open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';

export interface BlobFiles {
  pathOf(digest: Digest): string;
  /** Moves a file, already synced, to where its digest is found; durable when it resolves. What is there already is replaced. */
  keep(file: string, digest: Digest): Promise<void>;
}

/** Of the content in `directory`, whose `blobs` folder is there. */
export function createBlobFiles(directory: string): BlobFiles {
  const durable = new Map<string, Promise<void>>();
  const pathOf = (digest: Digest) => {
    const hex = digestHex(digest);
    return join(directory, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  };

  /** Once for each folder and process, whoever made it: a folder that is there may be too new to be durable. */
  function ensureFolder(folder: string): Promise<void> {
    const ensured = durable.get(folder) ?? makeFolder(folder);
    durable.set(folder, ensured);
    ensured.catch(() => durable.delete(folder));
    return ensured;
  }

  return {
    pathOf,
    async keep(file, digest) {
      const path = pathOf(digest);
      const folder = dirname(path);
      await ensureFolder(folder);
      await rename(file, path);
      await syncDirectory(folder);
    },
  };
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await syncDirectory(dirname(folder));
}

/** A rename is durable only when its directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
