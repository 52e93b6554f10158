// The data directory: its permissions, its disk, the process that uses it, and the records in it. Nothing is created or changed.
import { accessSync, constants, existsSync, type StatsFs, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { formatSize } from '../../oci/wording.ts';
import { hasStoredBytes } from '../../state/acknowledged.ts';
import { DirectoryLocked, lockDirectory, StateFault } from '../../state/data-directory.ts';
import { createSqliteStore } from '../../state/sqlite.ts';
import { type CheckedService, type Finding, fault, note, ok } from './findings.ts';

const ABOUT = 'data directory';
const MIN_FREE_BYTES = 1024 ** 3;
const MIN_FREE_SHARE = 0.05;

export type ReadSpace = (path: string) => Pick<StatsFs, 'bavail' | 'bsize' | 'blocks' | 'files' | 'ffree'>;

export async function checkData(
  { config, isRunning }: CheckedService,
  { readSpace = statfsSync }: { readonly readSpace?: ReadSpace | undefined } = {},
): Promise<readonly Finding[]> {
  const { dataDir } = config;
  if (!existsSync(dataDir)) {
    const parent = findExisting(dirname(dataDir));
    if (!isWritable(parent))
      return [fault(ABOUT, `${dataDir} does not exist, and ${parent} is not writable`, OWN(dataDir))];
    return [ok(ABOUT, `${dataDir} is created by the first start`), ...checkDisk(config, parent, readSpace)];
  }
  const unusable = findUnusable(dataDir);
  if (unusable) return [unusable];
  const records = isRunning ? [ok(ABOUT, `the service uses ${dataDir}`)] : await checkRecords(config);
  return [...checkMode(dataDir), ...records, ...checkDisk(config, dataDir, readSpace)];
}

const OWN = (path: string) => {
  const user = process.geteuid?.() ?? '<user>';
  return `give it to the user of the service: install -d -m 700 -o ${user} ${path}, or name another with dataDir`;
};

function findExisting(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : findExisting(dirname(path));
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function findUnusable(dataDir: string): Finding | undefined {
  if (!statSync(dataDir).isDirectory()) return fault(ABOUT, `${dataDir} is a file`, 'name a directory with dataDir');
  return isWritable(dataDir) ? undefined : fault(ABOUT, `this user may not write to ${dataDir}`, OWN(dataDir));
}

function checkMode(dataDir: string): readonly Finding[] {
  if ((statSync(dataDir).mode & 0o077) === 0) return [];
  const message = `other users of this machine can read ${dataDir}, with tokens and layers in it`;
  return [fault(ABOUT, message, `chmod -R go= ${dataDir}`)];
}

/** For a directory that no service uses; holds its lock meanwhile. */
async function checkRecords({ dataDir, state }: CheckedService['config']): Promise<readonly Finding[]> {
  const path = join(dataDir, state.postgres ? 'node/records.db' : 'records.db');
  try {
    // Taking a lock that was never taken would create its file.
    const lock = existsSync(join(dataDir, 'owner.db')) ? lockDirectory(dataDir) : undefined;
    try {
      return [...(state.postgres ? [] : checkLost(dataDir)), ...(await checkCondition(path))];
    } finally {
      lock?.release();
    }
  } catch (error) {
    if (error instanceof DirectoryLocked) return [fault(ABOUT, LOCKED(dataDir), LOCKED_REMEDY(dataDir))];
    if (error instanceof StateFault) return [fault('records', error.message, RESTORE)];
    throw error;
  }
}

const LOCKED = (dataDir: string) =>
  `another Veneer process uses ${dataDir}, but none answers at the listen address of this configuration`;
const LOCKED_REMEDY = (dataDir: string) =>
  `it hangs, or has another configuration: \`fuser -v ${join(dataDir, 'owner.db')}\` names it. Stop it, or give this configuration a dataDir of its own`;

const RESTORE = 'restore a backup with `veneer restore`, or rebuild the records with `veneer repair`';

function checkLost(dataDir: string): readonly Finding[] {
  if (existsSync(join(dataDir, 'records.db')) || !hasStoredBytes(dataDir)) return [];
  const message = `there is content in ${dataDir}, but no records.db`;
  return [fault('records', message, RESTORE)];
}

async function checkCondition(path: string): Promise<readonly Finding[]> {
  if (!existsSync(path)) return [];
  const records = createSqliteStore({ path });
  try {
    await records.check();
    const { condition } = records;
    return condition.kind === 'whole'
      ? [ok('records', 'they match the content')]
      : [fault('records', condition.reason, condition.remedy)];
  } finally {
    await records.close();
  }
}

function checkDisk({ cache }: CheckedService['config'], path: string, readSpace: ReadSpace): readonly Finding[] {
  const { bavail, bsize, blocks, files, ffree } = readSpace(path);
  const [free, total] = [bavail * bsize, blocks * bsize];
  const { highBytes } = cache.budget;
  const isLow = free < Math.min(MIN_FREE_BYTES, total * MIN_FREE_SHARE);
  const findings = [
    ...(isLow
      ? [fault('disk', `${formatSize(free)} of ${formatSize(total)} are free on the disk of ${path}`, FREE)]
      : [ok('disk', `${formatSize(free)} of ${formatSize(total)} are free on the disk of ${path}`)]),
    ...(files > 0 && ffree < files * MIN_FREE_SHARE
      ? [fault('disk', `${ffree} of ${files} inodes are free on the disk of ${path}`, FREE)]
      : []),
  ];
  if (highBytes === undefined || highBytes <= total) return findings;
  const message = `the cache may grow to ${formatSize(highBytes)}, and the whole disk has ${formatSize(total)}`;
  return [...findings, note('disk', message, 'set cache.maxSize to what the cache may have of it, such as half')];
}

const FREE = 'free some: `veneer cache prune --to 10GiB`, `veneer gc`, or a smaller cache.maxSize';
