// The folder of each build, removed when the build has ended. A start cleans up what a crash left: folders, and processes that work in them.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { kill } from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';

export interface Workspaces {
  /** Calls `work` with a new folder that only this user can read, and removes it afterwards. */
  use<T>(id: string, work: (directory: string) => Promise<T>): Promise<T>;
}

const REMOVAL = { recursive: true, force: true, maxRetries: 3 } as const;

export async function createWorkspaces({
  directory,
  onLeft = () => {},
}: {
  /** Used for nothing else: whatever a crash left in it is removed, and processes that work in it are ended. */
  readonly directory: string;
  /** Called for a folder that could not be removed: the next start retries. */
  readonly onLeft?: (directory: string, error: unknown) => void;
}): Promise<Workspaces> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await endLeftoverProcesses(directory);
  const leftovers = await readdir(directory);
  await Promise.all(leftovers.map(name => remove(join(directory, name))));

  /** A folder that cannot be removed fails no build. */
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

/** Only root can remove entries of a directory without write permission, as a build context may have. */
async function openUp(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await openUp(join(directory, entry.name));
  }
}

const GRACE_MS = 5_000;
const LOOK_MS = 50;

/** Ends processes that a crash orphaned: those whose HOME is below the directory, as that of builders is. Without /proc, as on macOS, none is found. */
export async function endLeftoverProcesses(
  directory: string,
  {
    graceMs = GRACE_MS,
  }: {
    /** The time between SIGTERM and SIGKILL. */
    readonly graceMs?: number;
  } = {},
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

/** Undefined also for a process that has ended, or is another user's. */
async function readHome(id: string): Promise<string | undefined> {
  const environment = await readFile(join('/proc', id, 'environ'), 'latin1').catch(() => '');
  const home = /(?:^|\0)HOME=([^\0]+)/.exec(environment)?.[1];
  return home && resolve(home);
}

function end(id: number, signal: NodeJS.Signals): void {
  try {
    kill(id, signal);
  } catch {
    // It has ended in the meantime.
  }
}
