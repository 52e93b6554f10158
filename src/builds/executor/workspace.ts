// Where a build works: a folder of its own, gone when the build has ended.
import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { endLeftovers } from './leftovers.ts';

export interface Workspaces {
  /** Calls `work` with a new folder that only this user can read, and removes it in the end, whatever comes of the work. */
  use<T>(id: string, work: (directory: string) => Promise<T>): Promise<T>;
}

interface WorkspacesOptions {
  /** Used for nothing else: what a crash left in it is removed, and what still works in it is ended. */
  readonly directory: string;
  /** Hears of a folder that could not be removed: the next start tries again. */
  readonly onLeft?: (directory: string, error: unknown) => void;
}

const REMOVAL = { recursive: true, force: true, maxRetries: 3 } as const;

export async function createWorkspaces({ directory, onLeft = () => {} }: WorkspacesOptions): Promise<Workspaces> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await endLeftovers(directory);
  const leftovers = await readdir(directory);
  await Promise.all(leftovers.map(name => remove(join(directory, name))));

  /** What a build is worth does not hang on its folder. */
  async function remove(path: string): Promise<void> {
    try {
      await rm(path, REMOVAL).catch(async (error: unknown) => {
        if (!(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error;
        await openUp(path);
        await rm(path, REMOVAL);
      });
    } catch (error) {
      onLeft(path, error);
    }
  }

  return {
    async use(id, work) {
      // mkdtemp makes it 0700.
      const path = await mkdtemp(join(directory, `${id}-`));
      try {
        return await work(path);
      } finally {
        await remove(path);
      }
    },
  };
}

/** Whoever is not root removes nothing from a directory that he may not write to, as a build context may have some. */
async function openUp(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await openUp(join(directory, entry.name));
  }
}
