// `veneer backup` and `veneer restore`: copies everything that cannot be refetched out of a data directory and back, while a service writes
// to it. The records are copied as one snapshot, and the content both before and after: content older than the records is included even if
// it is deleted meanwhile, and so is content added during the first pass. Surplus content does no harm.
import { constants, existsSync } from 'node:fs';
import { copyFile, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { Command } from 'commander';
import pLimit from 'p-limit';
import { formatSize } from '../oci/wording.ts';
import { forgetAcknowledged, hasStoredBytes, type RecordsFault } from '../state/acknowledged.ts';
import {
  type DirectoryLock,
  DirectoryLocked,
  lockDirectory,
  makeDirectory,
  StateFault,
} from '../state/data-directory.ts';
import { copyRecords, createSqliteStore } from '../state/sqlite.ts';
import { explain, print, printJson } from './output.ts';

const RECORDS = 'records.db';
/** The temporary name of the records: until they are renamed, an earlier backup remains valid. */
const NEW_RECORDS = 'records.db.new';

/** Specific to this process, incomplete, or refetched from upstreams. */
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
/** Named by digest: an existing file has these bytes. */
const CONTENT = /\/blobs\/sha\d+\//;

interface BackupCommandDeps {
  /** Called when a command runs. */
  readonly findDataDir: () => string;
  /** Whether standard error is a terminal, to show progress. */
  readonly isTerminal?: boolean;
}

interface JsonFlag {
  readonly json?: boolean;
}

export function createBackupCommand({ findDataDir, isTerminal }: BackupCommandDeps): Command {
  return new Command('backup')
    .description(
      'copies everything that cannot be refetched to a directory, while the service runs; later runs only copy what is new',
    )
    .argument('<directory>', 'the target directory, created if absent; protect it like the data directory')
    .option('--json', 'prints what was copied as JSON')
    .action(async (directory: string, { json }: JsonFlag, self: Command) => {
      const from = resolve(findDataDir());
      const to = resolve(directory);
      requireRecords(self, from, 'name the data directory of the service with --data-dir');
      if (isWithin(to, from) || isWithin(from, to)) self.error(`error: ${to} and ${from} must not contain each other`);
      const copied = await backUp(from, to, createProgress(self, isTerminal));
      if (copied.gone > 0) explain(self, `${copied.gone} files were added and deleted meanwhile, and are not included`);
      if (json) printJson(self, { directory: to, ...copied });
      else print(self, `${to} has the records and ${describeCopied(copied)}`);
    });
}

export function createRestoreCommand({ findDataDir, isTerminal }: BackupCommandDeps): Command {
  return new Command('restore')
    .description('creates a data directory from a backup; start the service on it afterwards')
    .argument('<directory>', 'the target directory of `veneer backup`')
    .option('--json', 'prints what was copied, and what is wrong with the records, as JSON')
    .action(async (directory: string, { json }: JsonFlag, self: Command) => {
      const from = resolve(directory);
      const to = resolve(findDataDir());
      requireRecords(self, from, 'it is not a backup, or an incomplete one');
      const owner = own(self, to);
      try {
        if (existsSync(join(to, RECORDS))) {
          self.error(`error: ${to} already has records: move it away, or choose another directory with --data-dir`);
        }
        const copied = await restore(from, to, createProgress(self, isTerminal));
        const fault = await takeRestored(to);
        if (json) printJson(self, { directory: to, ...copied, fault: fault ?? null });
        else
          print(self, `${to} has the records and ${describeCopied(copied)}; start the service with --data-dir ${to}`);
        if (fault) explain(self, `${fault.reason}: ${fault.remedy}`);
      } finally {
        owner.release();
      }
    });
}

/** The acknowledged state of the old records is void if no content of theirs is left; otherwise it shows what the backup lacks. */
async function restore(from: string, to: string, progress: Progress): Promise<Copied> {
  if (!hasStoredBytes(to)) forgetAcknowledged(to);
  return backUp(from, to, progress);
}

/** From here on these records diverge from those that the backup was made of. */
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

interface Progress {
  show(copied: Copied): void;
  clear(): void;
}

/** One line that is overwritten repeatedly, where there is a terminal. */
function createProgress(self: Command, isTerminal = false): Progress {
  const write = isTerminal ? self.configureOutput().writeErr : undefined;
  let seen = 0;
  return {
    show(copied) {
      seen += 1;
      if (seen % SHOW_EVERY === 1) write?.(`\r\u001b[K${describeCopied(copied)}`);
    },
    clear: () => write?.('\r\u001b[K'),
  };
}

/** In files. */
const SHOW_EVERY = 50;

interface Copied {
  readonly files: number;
  /** The number of copied files; the others existed. */
  readonly fresh: number;
  readonly bytes: number;
  readonly gone: number;
}

/** Throws StateFault for an unusable directory or damaged records. A file gets its final name only when it is complete. */
async function backUp(from: string, to: string, progress: Progress): Promise<Copied> {
  makeDirectory(to);
  const fresh = join(to, NEW_RECORDS);
  await rm(fresh, { force: true });
  const before = await copyFiles(from, to, { progress, isWanted: file => CONTENT.test(file) });
  await copyRecords(join(from, RECORDS), fresh);
  await sync(fresh);
  const after = await copyFiles(from, to, { progress });
  progress.clear();
  await rename(fresh, join(to, RECORDS));
  await sync(to);
  return { ...after, fresh: before.fresh + after.fresh, bytes: before.bytes + after.bytes };
}

async function copyFiles(
  from: string,
  to: string,
  { progress, isWanted = () => true }: { readonly progress: Progress; readonly isWanted?: (file: string) => boolean },
): Promise<Copied> {
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
    progress.show({ files, fresh, bytes, gone });
  }

  // A disk syncs some concurrently as fast as one.
  const atOnce = pLimit(AT_ONCE);
  for await (const folder of listFolders(from)) {
    await atOnce.map(folder.filter(isWanted), copy);
  }
  for (const directory of directories) await sync(directory);
  return { files, fresh, bytes, gone };
}

/** The number of bytes copied: zero where the file exists. Undefined for a file removed since it was listed. */
async function copyOne(source: string, target: string, isContent: boolean): Promise<number | undefined> {
  try {
    const { size } = await stat(source);
    const there = isContent && existsSync(target) ? await stat(target) : undefined;
    if (there?.size === size) return 0;
    const temporary = `${target}.new`;
    // Free on file systems that share blocks between files.
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

/** Synced: what is printed survives a power cut. */
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

/** Ends the command where another process has locked the directory. */
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

function describeCopied({ files, fresh, bytes }: Copied): string {
  return `${files} files, ${fresh} of them copied now (${formatSize(bytes)})`;
}
