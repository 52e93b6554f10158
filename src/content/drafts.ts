// Drafts in files: drafts/<id>, beside the blobs that they become, in the same file system.
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DigestAlgorithm } from '../oci/digest.ts';
import { createBlobFiles } from './blob-files.ts';
import { createDraft, type Draft, type DraftOptions } from './draft.ts';

export interface Drafts {
  /** An empty draft. `id` is a UUID that no other draft has. */
  create(id: string, algorithm: DigestAlgorithm): Promise<Draft>;
  /** A draft as it was left; undefined where there is none. */
  open(id: string, algorithm: DigestAlgorithm): Promise<Draft | undefined>;
  /** When bytes came in last, by the clock of the file system; undefined where there is no such draft. */
  findTouched(id: string): Promise<Date | undefined>;
  /** Removes a draft, if there is one. */
  discard(id: string): Promise<void>;
  list(): Promise<readonly string[]>;
}

interface DraftsOptions extends Pick<DraftOptions, 'onKept'> {
  /** Of a disk store, which is open. */
  readonly directory: string;
}

/** Drafts of an earlier process are there again. */
export async function createDrafts({ directory, onKept }: DraftsOptions): Promise<Drafts> {
  const folder = join(directory, 'drafts');
  await mkdir(folder, { recursive: true });
  const files = createBlobFiles(directory);
  const pathOf = (id: string) => join(folder, parseId(id));
  return {
    async create(id, algorithm) {
      const path = pathOf(id);
      const file = await open(path, 'wx');
      await file.close();
      return createDraft({ path, size: 0, algorithm, files, onKept });
    },
    async open(id, algorithm) {
      const path = pathOf(id);
      const size = (await findStats(path))?.size;
      return size === undefined ? undefined : createDraft({ path, size, algorithm, files, onKept });
    },
    findTouched: async id => (await findStats(pathOf(id)))?.mtime,
    discard: id => rm(pathOf(id), { force: true }),
    list: async () => (await readdir(folder)).filter(name => UUID.test(name)),
  };
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** An id becomes a file name. */
function parseId(id: string): string {
  if (!UUID.test(id)) throw new TypeError('the id of a draft is no UUID');
  return id;
}

async function findStats(path: string) {
  return await stat(path, { throwIfNoEntry: false });
}
