// Where a build works: a folder of its own, gone when the build has ended, with whatever process a crash left at work in it.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { kill } from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';

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
  await endLeftoverProcesses(directory);
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

interface LeftoversOptions {
  /** How long they have between SIGTERM and SIGKILL. */
  readonly graceMs?: number;
}

const GRACE_MS = 5_000;
const LOOK_MS = 50;

/** Ends every process whose HOME is below the directory: builders have it in the folder of their build. Without /proc, as on macOS, none is found. */
export async function endLeftoverProcesses(
  directory: string,
  { graceMs = GRACE_MS }: LeftoversOptions = {},
): Promise<void> {
  const deadline = Date.now() + graceMs;
  let left = await findLeftovers(directory);
  for (const id of left) end(id, 'SIGTERM');
  while (left.length > 0 && Date.now() < deadline) {
    await wait(LOOK_MS);
    left = await findLeftovers(directory);
  }
  for (const id of left) end(id, 'SIGKILL');
}

async function findLeftovers(directory: string): Promise<readonly number[]> {
  const ids = (await readdir('/proc').catch(() => [])).filter(name => /^\d+$/.test(name));
  const homes = await Promise.all(ids.map(readHome));
  return ids.filter((_, i) => homes[i]?.startsWith(resolve(directory) + sep)).map(Number);
}

/** Undefined also for one that has ended, or is another user's. */
async function readHome(id: string): Promise<string | undefined> {
  const environment = await readFile(join('/proc', id, 'environ'), 'latin1').catch(() => '');
  const home = /(?:^|\0)HOME=([^\0]+)/.exec(environment)?.[1];
  return home && resolve(home);
}

function end(id: number, signal: NodeJS.Signals): void {
  try {
    kill(id, signal);
  } catch {
    // It has ended meanwhile.
  }
}
