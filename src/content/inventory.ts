// All content of a disk store, for whoever has to tell what is still needed from what is not.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '../oci/digest.ts';

/** Digests in no order, read folder by folder. What comes or goes meanwhile may be among them or not. Other files are left out. */
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
