// `veneer repair`: where records and content no longer match, rebuilds the records from disk, and accepts the result. No content is
// removed, and replaced files are renamed, not deleted.
import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import type { LinkCounts } from '../hosted/repair/journal-replay.ts';
import { LINK_JOURNAL } from '../hosted/repair/link-journal.ts';
import { type RebuildReport, rebuildLinks, rewriteJournal } from '../hosted/repair/rebuild.ts';
import { formatSize } from '../oci/wording.ts';
import { StateFault } from '../state/data-directory.ts';
import { copyRecords, createSqliteStore, type SqliteStore } from '../state/sqlite.ts';
import { RecordStoreDamaged } from '../state/store.ts';
import { own } from './backup.ts';
import { explain, print, printJson } from './output.ts';

interface RepairTarget {
  readonly dataDir: string;
  /** The repository for manifests that belong to none. */
  readonly recovered: string;
  /** Whether the content is in a bucket, where it cannot be read from here. */
  readonly isInBucket?: boolean;
}

interface RepairOptions {
  readonly dryRun?: boolean;
  readonly asIs?: boolean;
  readonly records?: string;
  readonly json?: boolean;
}

const RECORDS = 'records.db';
const IN_BUCKET = (directory: string) =>
  `records are rebuilt from content on this disk, and content.s3 has it in a bucket: copy hosted/blobs from there to ${directory}/hosted/blobs (aws s3 sync), repair without content.s3, and move the folder away`;
const HINT = 'Move records.db away with the files beside it, or give an earlier copy with --records';
/** How many names are listed; of more, only their number. */
const MAX_NAMED = 20;

export function createRepairCommand({
  findTarget,
  isTerminal,
}: {
  /** Called when the command runs. */
  readonly findTarget: () => RepairTarget;
  /** Whether standard error is a terminal, to show progress. */
  readonly isTerminal: boolean;
}): Command {
  return new Command('repair')
    .description('rebuilds records that are lost or older than the content from disk; stop the service first')
    .option('--dry-run', 'reports what it would do, and changes nothing')
    .option('--records <file>', 'starts from an earlier copy of records.db, in place of the current one')
    .option('--as-is', 'accepts the records as they are, and rebuilds nothing')
    .option('--json', 'prints the report as JSON')
    .action(async (options: RepairOptions, self: Command) => {
      const { dataDir, recovered, isInBucket } = findTarget();
      const directory = resolve(dataDir);
      if (!existsSync(join(directory, 'hosted'))) {
        self.error(`error: there is no registry in ${directory}: name the data directory of the service`);
      }
      if (isInBucket && !options.asIs) self.error(`error: ${IN_BUCKET(directory)}`);
      const owner = own(self, directory);
      try {
        const repair: Repair = { self, directory, recovered, isTerminal };
        if (options.dryRun) await rehearse(repair, options);
        else await run(repair, options);
      } catch (error) {
        if (!(error instanceof StateFault || error instanceof RecordStoreDamaged)) throw error;
        self.error(`error: ${error.message}. ${HINT}`);
      } finally {
        owner.release();
      }
    });
}

interface Repair {
  readonly self: Command;
  readonly directory: string;
  readonly recovered: string;
  readonly isTerminal: boolean;
}

async function run(repair: Repair, { records: copy, asIs, json }: RepairOptions): Promise<void> {
  const { self, directory } = repair;
  const aside = `before-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`;
  if (copy !== undefined) await takeCopy(repair, resolve(copy), aside);
  const records = createSqliteStore({ path: join(directory, RECORDS) });
  const hosted = join(directory, 'hosted');
  try {
    printCondition(self, records);
    await records.check();
    if (records.condition.kind === 'damaged') self.error(`error: ${records.condition.reason}. ${HINT}`);
    const report = asIs ? undefined : await rebuild(repair, records);
    if (report && !json) printReport(self, report, repair.recovered);
    await keepJournal(self, hosted, aside);
    await records.accept();
    await rewriteJournal(hosted, records);
    if (json) printJson(self, { isAccepted: true, report: report ?? null });
    else print(self, 'accepted: these are the records from now on, and garbage collection works as usual');
  } finally {
    await records.close();
  }
}

/** A complete run, on a copy of the records. */
async function rehearse(repair: Repair, { records: copy, asIs, json }: RepairOptions): Promise<void> {
  const { self, directory } = repair;
  const there = join(directory, RECORDS);
  const temporary = await mkdtemp(join(directory, 'repair-'));
  try {
    const base = copy === undefined ? there : resolve(copy);
    if (existsSync(base)) await copyRecords(base, join(temporary, RECORDS));
    else if (copy !== undefined) self.error(`error: there is no ${base}`);
    else explain(self, 'there are no records');
    const records = createSqliteStore({ path: join(temporary, RECORDS) });
    try {
      const report = asIs ? undefined : await rebuild(repair, records);
      if (json) printJson(self, { isAccepted: false, report: report ?? null });
      else if (report) printReport(self, report, repair.recovered);
    } finally {
      await records.close();
    }
    (json ? explain : print)(self, 'dry run: nothing was changed');
  } finally {
    await rm(temporary, { recursive: true });
  }
}

/** The previous records are renamed. */
async function takeCopy({ self, directory }: Repair, copy: string, aside: string): Promise<void> {
  if (!existsSync(copy)) self.error(`error: there is no ${copy}`);
  const fresh = join(directory, `${RECORDS}.new`);
  await rm(fresh, { force: true });
  await copyRecords(copy, fresh);
  for (const end of ['', '-wal', '-shm']) {
    const path = join(directory, `${RECORDS}${end}`);
    if (existsSync(path)) await rename(path, join(directory, `${RECORDS}.${aside}${end}`));
  }
  await rename(fresh, join(directory, RECORDS));
  explain(self, `using the records of ${copy}; the previous ones are now ${RECORDS}.${aside}`);
}

/** It may name lost content: if the bytes are found, they can be put back, and the repair repeated. */
async function keepJournal(self: Command, hosted: string, aside: string): Promise<void> {
  if (!existsSync(join(hosted, LINK_JOURNAL))) return;
  await copyFile(join(hosted, LINK_JOURNAL), join(hosted, `${LINK_JOURNAL}.${aside}`));
  explain(self, `the previous link journal is now hosted/${LINK_JOURNAL}.${aside}`);
}

async function rebuild({ self, directory, recovered, isTerminal }: Repair, records: SqliteStore) {
  const write = isTerminal ? self.configureOutput().writeErr : undefined;
  const report = await rebuildLinks({
    ...{ directory: join(directory, 'hosted'), records, recovered },
    onProgress: ({ visited }) => write?.(`\rrepairing: ${visited} links and files seen`),
  });
  // Returns to the start of the line, and clears it.
  write?.('\r\u001b[K');
  return report;
}

function printCondition(self: Command, { condition }: SqliteStore): void {
  explain(self, condition.kind === 'whole' ? 'the records match the content' : condition.reason);
}

function printReport(self: Command, report: RebuildReport, repository: string): void {
  const { rebuilt, removed, recovered, total, unnamed, lost, broken, damagedLines } = report;
  if (!report.hasJournal) explain(self, 'there is no link journal: names and tags are taken from the records');
  if (damagedLines > 0) explain(self, `${count(damagedLines, 'line')} of the link journal cannot be read`);
  print(self, `rebuilt: ${counts(rebuilt)}`);
  if (!isNothing(removed)) print(self, `removed, since deleted according to the journal: ${counts(removed)}`);
  if (!isNothing(recovered)) print(self, `without a repository, now in ${repository}: ${counts(recovered)}`);
  print(self, `total: ${count(total.repositories, 'repository', 'repositories')}, ${counts(total)}`);
  name(self, 'not rebuilt, because the content is missing', lost);
  name(self, 'recorded, but the content is missing: push it again', broken);
  if (unnamed.files > 0) {
    const what = `${count(unnamed.files, 'file')} (${formatSize(unnamed.bytes)})`;
    print(self, `without a repository: ${what}, until \`veneer gc\` removes them`);
  }
  explain(self, 'tokens, access tokens and builds can only be restored from a copy of the records: see --records');
}

function name(self: Command, what: string, names: readonly string[]): void {
  if (names.length === 0) return;
  print(self, `${what}: ${names.length}`);
  for (const each of names.slice(0, MAX_NAMED)) print(self, `  ${each}`);
  if (names.length > MAX_NAMED) print(self, `  and ${names.length - MAX_NAMED} more`);
}

function counts({ tags, manifests, blobs }: LinkCounts): string {
  return [count(tags, 'tag'), count(manifests, 'manifest'), count(blobs, 'blob')].join(', ');
}

function isNothing({ tags, manifests, blobs }: LinkCounts): boolean {
  return tags + manifests + blobs === 0;
}

function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}
