// `veneer backup` and `veneer restore`: all that cannot be had again, out of a data directory and back, while a service writes to it.
// The records are copied in one piece, and the bytes that they refer to before and after: what came before the records is there, though it is
// deleted meanwhile, and so is what came while the first bytes were copied. Of the rest there is too much, which does no harm.
import { constants, existsSync } from 'node:fs';
import { copyFile, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { Command } from 'commander';
import pLimit from 'p-limit';
import { formatSize } from '../oci/wording.ts';
import { forgetAcknowledged, hasKeptBytes, type RecordsFault } from '../state/acknowledged.ts';
import {
  type DirectoryLock,
  DirectoryLocked,
  lockDirectory,
  makeDirectory,
  StateFault,
} from '../state/data-directory.ts';
import { copyRecords, createSqliteStore } from '../state/sqlite.ts';
import { explain, print } from './output.ts';

const RECORDS = 'records.db';
/** The records on their way in: until they have their name, a backup that was there before is the one that counts. */
const NEW_RECORDS = 'records.db.new';

/** What is of this process alone, on its way in, or had again from upstreams. */
const LEFT_OUT = [
  /^records\.db/,
  /^(?:acknowledged|clock)\.json$/,
  /^(?:reserve|ended-by-itself|fatal-report\..*)$/,
  /^owner\.db/,
  /^repair-/,
  /^content\//,
  /^hosted\/links\.jsonl/,
  /^hosted\/drafts\//,
  /^builds\/(?:work\/|contexts-key$)/,
  /(?:^|\/)ingest\//,
  /(?:^|\/)damaged\//,
];
const AT_ONCE = 16;
/** Named by its digest: what is there has these bytes. */
const CONTENT = /\/blobs\/sha\d+\//;

export function createBackupCommand({
  findDataDir,
}: {
  /** Asked when a command runs. */
  readonly findDataDir: () => string;
}): Command {
  return new Command('backup')
    .description(
      'copies what cannot be had again to a directory, while the service runs; the same directory again takes what is new',
    )
    .argument('<directory>', 'where the copy goes: made if absent, and worth as much care as the data directory itself')
    .action(async (directory: string, _, self: Command) => {
      const from = resolve(findDataDir());
      const to = resolve(directory);
      requireRecords(self, from, 'name the data directory of the service with --data-dir');
      if (isWithin(to, from) || isWithin(from, to)) self.error(`error: ${to} and ${from} must not contain each other`);
      const copied = await backUp(from, to);
      if (copied.gone > 0) explain(self, `${copied.gone} files came and were deleted meanwhile: they are not in it`);
      print(self, `${to} has the records and ${tell(copied)}`);
    });
}

export function createRestoreCommand({
  findDataDir,
}: {
  /** Asked when a command runs. */
  readonly findDataDir: () => string;
}): Command {
  return new Command('restore')
    .description('makes a data directory of a backup; start the service on it afterwards')
    .argument('<directory>', 'where `veneer backup` has copied to')
    .action(async (directory: string, _, self: Command) => {
      const from = resolve(directory);
      const to = resolve(findDataDir());
      requireRecords(self, from, 'it is no backup, or one that never came to its end');
      const owner = own(self, to);
      try {
        if (existsSync(join(to, RECORDS))) {
          self.error(`error: ${to} has records already: move it away, or name another directory with --data-dir`);
        }
        print(self, `${to} has the records and ${tell(await restore(from, to))}`);
        const fault = await takeRestored(to);
        if (fault) explain(self, `${fault.reason}: ${fault.remedy}`);
      } finally {
        owner.release();
      }
    });
}

/** What was acknowledged here before is of no account where nothing of it is left; beside bytes that stayed, it tells what the backup lacks. */
async function restore(from: string, to: string): Promise<Copied> {
  if (!hasKeptBytes(to)) forgetAcknowledged(to);
  return backUp(from, to);
}

/** From here on these are other records than those that the backup was made of, and go their own way. */
async function takeRestored(directory: string): Promise<RecordsFault | undefined> {
  const records = createSqliteStore({ path: join(directory, RECORDS) });
  try {
    const { condition } = records;
    if (condition.kind !== 'whole') return condition;
    await records.accept();
    return undefined;
  } finally {
    await records.close();
  }
}

interface Copied {
  readonly files: number;
  /** Of these; the others were there. */
  readonly fresh: number;
  readonly bytes: number;
  readonly gone: number;
}

/** Throws StateFault for a directory that cannot be used or records that are damaged. What is there has its name only when it is whole. */
async function backUp(from: string, to: string): Promise<Copied> {
  makeDirectory(to);
  const fresh = join(to, NEW_RECORDS);
  await rm(fresh, { force: true });
  const before = await copyFiles(from, to, file => CONTENT.test(file));
  await copyRecords(join(from, RECORDS), fresh);
  await sync(fresh);
  const after = await copyFiles(from, to);
  await rename(fresh, join(to, RECORDS));
  await sync(to);
  return { ...after, fresh: before.fresh + after.fresh, bytes: before.bytes + after.bytes };
}

async function copyFiles(from: string, to: string, isWanted = (_: string) => true): Promise<Copied> {
  let [files, fresh, bytes, gone] = [0, 0, 0, 0];
  const directories = new Set<string>([to]);
  async function copy(file: string): Promise<void> {
    const target = join(to, file);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    directories.add(dirname(target));
    const size = await copyOne(join(from, file), target, CONTENT.test(file));
    if (size === undefined) gone += 1;
    else files += 1;
    if (size !== undefined && size > 0) [fresh, bytes] = [fresh + 1, bytes + size];
  }

  // A disk syncs some at once as fast as one.
  const atOnce = pLimit(AT_ONCE);
  for await (const folder of listFolders(from)) {
    await atOnce.map(folder.filter(isWanted), copy);
  }
  for (const directory of directories) await sync(directory);
  return { files, fresh, bytes, gone };
}

/** How many bytes were copied: none where they are there. Undefined for a file that has gone since it was listed. */
async function copyOne(source: string, target: string, isContent: boolean): Promise<number | undefined> {
  try {
    const { size } = await stat(source);
    const there = isContent && existsSync(target) ? await stat(target) : undefined;
    if (there?.size === size) return 0;
    const temporary = `${target}.new`;
    // Where the file system shares blocks between files, the copy costs nothing.
    await copyFile(source, temporary, constants.COPYFILE_FICLONE);
    await sync(temporary);
    await rename(temporary, target);
    return size;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new StateFault(target, error);
  }
}

/** The files of each folder, relative to the directory. */
async function* listFolders(directory: string, below = ''): AsyncGenerator<readonly string[]> {
  const files: string[] = [];
  for (const entry of await readdir(join(directory, below), { withFileTypes: true })) {
    const name = below === '' ? entry.name : `${below}/${entry.name}`;
    if (LEFT_OUT.some(pattern => pattern.test(entry.isDirectory() ? `${name}/` : name))) continue;
    if (entry.isDirectory()) yield* listFolders(directory, name);
    else if (entry.isFile() && !name.endsWith('.new')) files.push(name);
  }
  yield files;
}

/** On the disk: what is printed is true after a power cut. */
async function sync(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function requireRecords(self: Command, directory: string, remedy: string): void {
  if (!existsSync(join(directory, RECORDS))) self.error(`error: there is no ${RECORDS} in ${directory}: ${remedy}`);
}

/** Ends the command where another process has the directory. */
export function own(self: Command, directory: string): DirectoryLock {
  try {
    return lockDirectory(directory);
  } catch (error) {
    if (error instanceof DirectoryLocked) return self.error(`error: ${error.message}`);
    throw error;
  }
}

function isWithin(inner: string, outer: string): boolean {
  const path = relative(outer, inner);
  return path === '' || !(path === '..' || path.startsWith(`..${sep}`));
}

function tell({ files, fresh, bytes }: Copied): string {
  return `${files} files, ${fresh} of them copied now (${formatSize(bytes)})`;
}
