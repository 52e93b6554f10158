// Builders that a crash of the service left at work: nobody else would end them, and their steps would run on.
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { kill } from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';

interface LeftoversOptions {
  /** How long they have between SIGTERM and SIGKILL. */
  readonly graceMs?: number;
}

const GRACE_MS = 5_000;
const LOOK_MS = 50;

/** Ends every process whose HOME is below the directory: builders have it in the folder of their build. Without /proc, as on macOS, none is found. */
export async function endLeftovers(directory: string, { graceMs = GRACE_MS }: LeftoversOptions = {}): Promise<void> {
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
