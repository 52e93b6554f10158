// All content of a disk store, for whoever has to tell what is still needed from what is not.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '../oci/digest.ts';
import { createBlobFiles } from './blob-files.ts';

export interface Inventory {
  /** Digests in no order, read folder by folder. What comes or goes meanwhile may be among them or not. Other files are left out. */
  list(): AsyncIterable<Digest>;
  /** When content came last, by the time of change of its file; undefined for what is not there. */
  findKeptAt(digest: Digest): Promise<Date | undefined>;
}

export function createInventory(directory: string): Inventory {
  const { pathOf } = createBlobFiles(directory);
  return {
    list: () => listContent(directory),
    findKeptAt: async digest => (await stat(pathOf(digest), { throwIfNoEntry: false }))?.mtime,
  };
}

/** As the list of an inventory. */
export async function* listContent(directory: string): AsyncGenerator<Digest> {
  for (const algorithm of ['sha256', 'sha512']) {
    const parent = join(directory, 'blobs', algorithm);
    for (const folder of await listFolders(parent)) {
      for (const name of await readdir(join(parent, folder))) {
        const digest = `${algorithm}:${name}`;
        if (isDigest(digest)) yield digest;
      }
    }
  }
}

async function listFolders(parent: string): Promise<readonly string[]> {
  const entries = await readdir(parent, { withFileTypes: true });
  return entries.filter(entry => entry.isDirectory()).map(({ name }) => name);
}
