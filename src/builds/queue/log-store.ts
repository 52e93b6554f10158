// The logs of all builds: a file for each in one directory, named by the build's id.
import { mkdir, readdir, stat, unlink } from 'node:fs/promises';
import type { LogEntry } from '../progress.ts';
import { buildIdSchema } from '../record.ts';
import { createLiveLog, type LiveLog, type LiveLogDeps, logPath } from './live-log.ts';
import { type ReadLogOptions, readLiveLog, readStoredLog } from './read-log.ts';

export interface LogStore {
  /** For a build that begins, or goes on after a restart. */
  create(id: string): LiveLog;
  /** Of a build that has ended; undefined where none is kept. The caller reads it to its end or returns it. */
  find(id: string, signal: AbortSignal): Promise<AsyncIterable<LogEntry> | undefined>;
  /** Of one that is under way. */
  follow(log: LiveLog, options: ReadLogOptions): AsyncIterable<LogEntry>;
  /** Whether there is a log of this id, known or forgotten. */
  has(id: string): Promise<boolean>;
  /** Removes the logs of all that nobody knows any more, an hour after their last line. */
  sweep(isKnown: (id: string) => Promise<boolean>): Promise<void>;
}

/** A log whose record is not there may be about to get it back. */
const GRACE_MS = 3_600_000;

/** Makes the directory where it is absent, for this user alone. */
export async function createLogStore(deps: LiveLogDeps): Promise<LogStore> {
  const { directory, now } = deps;
  await mkdir(directory, { recursive: true, mode: 0o700 });

  async function findEnd(id: string): Promise<number | undefined> {
    return (await stat(logPath(directory, id), { throwIfNoEntry: false }))?.mtimeMs;
  }

  async function has(id: string): Promise<boolean> {
    return (await findEnd(id)) !== undefined;
  }

  return {
    create: id => createLiveLog(id, deps),
    follow: readLiveLog,
    has,
    async find(id, signal) {
      if (!buildIdSchema.safeParse(id).success) return undefined;
      return (await has(id)) ? readStoredLog(logPath(directory, id), signal) : undefined;
    },
    async sweep(isKnown) {
      for (const name of await readdir(directory)) {
        const id = name.slice(0, -'.log'.length);
        if (!name.endsWith('.log') || !buildIdSchema.safeParse(id).success) continue;
        const endedAt = await findEnd(id);
        if (endedAt === undefined || endedAt + GRACE_MS > now().getTime() || (await isKnown(id))) continue;
        await unlink(logPath(directory, id)).catch(ignoreAbsence);
      }
    },
  };
}

function ignoreAbsence(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}
