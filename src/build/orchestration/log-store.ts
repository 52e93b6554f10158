// The logs of all builds: a file for each in one directory, named by the build's id.
import { access, mkdir, readdir, unlink } from 'node:fs/promises';
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
  /** Removes the log of an attempt that is long forgotten, before another gets its id. */
  remove(id: string): Promise<void>;
  /** Removes the logs of all that nobody knows any more. */
  sweep(isKnown: (id: string) => Promise<boolean>): Promise<void>;
}

/** Makes the directory where it is absent, for this user alone. */
export async function createLogStore(deps: LiveLogDeps): Promise<LogStore> {
  const { directory } = deps;
  await mkdir(directory, { recursive: true, mode: 0o700 });

  async function remove(id: string): Promise<void> {
    await unlink(logPath(directory, id)).catch(ignoreAbsence);
  }

  return {
    create: id => createLiveLog(id, deps),
    follow: readLiveLog,
    remove,
    async find(id, signal) {
      if (!buildIdSchema.safeParse(id).success) return undefined;
      const path = logPath(directory, id);
      const isThere = await access(path).then(() => true, ignoreAbsence);
      return isThere ? readStoredLog(path, signal) : undefined;
    },
    async sweep(isKnown) {
      for (const name of await readdir(directory)) {
        const id = name.slice(0, -'.log'.length);
        if (!name.endsWith('.log') || !buildIdSchema.safeParse(id).success) continue;
        if (!(await isKnown(id))) await remove(id);
      }
    },
  };
}

function ignoreAbsence(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}
