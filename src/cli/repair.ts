// `veneer repair`: where records and bytes do not belong together any more, rebuilds of the records what the disk tells, and takes them as the
// ones that count from now on. No bytes are removed, and what it replaces is kept beside.
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
import { explain, print } from './output.ts';

interface RepairPlace {
  readonly dataDir: string;
  /** The repository for what belongs to none. */
  readonly recovered: string;
}

interface RepairOptions {
  readonly dryRun?: boolean;
  readonly asIs?: boolean;
  readonly records?: string;
}

const RECORDS = 'records.db';
const HINT = 'Move records.db away with what is beside it, or name a copy of before with --records';
/** How many names are told: of more, their number. */
const MAX_NAMED = 20;

export function createRepairCommand({
  findPlace,
  isTerminal,
}: {
  /** Asked when the command runs. */
  readonly findPlace: () => RepairPlace;
  /** Whether standard error is a terminal: then it shows how far the run is. */
  readonly isTerminal: boolean;
}): Command {
  return new Command('repair')
    .description(
      'rebuilds records that are gone or older than the bytes from what the disk tells; stop the service first',
    )
    .option('--dry-run', 'says what it would do, and changes nothing')
    .option('--records <file>', 'begins with a copy of records.db of before, in place of the one that is there')
    .option('--as-is', 'takes the records as they are, and rebuilds nothing')
    .action(async (options: RepairOptions, self: Command) => {
      const { dataDir, recovered } = findPlace();
      const directory = resolve(dataDir);
      if (!existsSync(join(directory, 'hosted'))) {
        self.error(`error: there is no registry in ${directory}: name the data directory of the service`);
      }
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

async function run(repair: Repair, { records: copy, asIs }: RepairOptions): Promise<void> {
  const { self, directory } = repair;
  const aside = `before-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`;
  if (copy !== undefined) await takeCopy(repair, resolve(copy), aside);
  const records = createSqliteStore({ path: join(directory, RECORDS) });
  const hosted = join(directory, 'hosted');
  try {
    tellCondition(self, records);
    await records.check();
    if (records.condition.kind === 'damaged') self.error(`error: ${records.condition.reason}. ${HINT}`);
    const report = asIs ? undefined : await rebuild(repair, records);
    if (report) tell(self, report, repair.recovered);
    await keepJournal(self, hosted, aside);
    await records.accept();
    await rewriteJournal(hosted, records);
    print(self, 'accepted: these are the records from now on, and what belongs to no repository is collected as ever');
  } finally {
    await records.close();
  }
}

/** All of it, over a copy of the records. */
async function rehearse(repair: Repair, { records: copy, asIs }: RepairOptions): Promise<void> {
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
      if (report) tell(self, report, repair.recovered);
    } finally {
      await records.close();
    }
    print(self, 'nothing was changed, as --dry-run says');
  } finally {
    await rm(temporary, { recursive: true });
  }
}

/** What was there stays beside. */
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
  explain(self, `the records are those of ${copy}; what was there is ${RECORDS}.${aside}`);
}

/** It may name what is lost: where the bytes are found, it can be put back, and this be done once more. */
async function keepJournal(self: Command, hosted: string, aside: string): Promise<void> {
  if (!existsSync(join(hosted, LINK_JOURNAL))) return;
  await copyFile(join(hosted, LINK_JOURNAL), join(hosted, `${LINK_JOURNAL}.${aside}`));
  explain(self, `the link journal of before is kept as hosted/${LINK_JOURNAL}.${aside}`);
}

async function rebuild({ self, directory, recovered, isTerminal }: Repair, records: SqliteStore) {
  const write = isTerminal ? self.configureOutput().writeErr : undefined;
  const report = await rebuildLinks({
    ...{ directory: join(directory, 'hosted'), records, recovered },
    onProgress: ({ visited }) => write?.(`\rrepairing: ${visited} links and files seen`),
  });
  // From the beginning of the line to its end.
  write?.('\r\u001b[K');
  return report;
}

function tellCondition(self: Command, { condition }: SqliteStore): void {
  explain(self, condition.kind === 'whole' ? 'the records and the bytes belong together' : condition.reason);
}

function tell(self: Command, report: RebuildReport, repository: string): void {
  const { rebuilt, removed, recovered, total, unnamed, lost, broken, damagedLines } = report;
  if (!report.hasJournal) explain(self, 'there is no link journal: names and tags are what the records have');
  if (damagedLines > 0) explain(self, `${count(damagedLines, 'line')} of the link journal cannot be read`);
  print(self, `rebuilt: ${counts(rebuilt)}`);
  if (!isNothing(removed)) print(self, `removed, as they were deleted since: ${counts(removed)}`);
  if (!isNothing(recovered)) print(self, `of no repository, now in ${repository}: ${counts(recovered)}`);
  print(self, `there in all: ${count(total.repositories, 'repository', 'repositories')}, ${counts(total)}`);
  name(self, 'not rebuilt, as the bytes are not there', lost);
  name(self, 'recorded, though the bytes are not there: push them again', broken);
  if (unnamed.files > 0) {
    const what = `${count(unnamed.files, 'file')} (${formatSize(unnamed.bytes)})`;
    print(self, `of no repository: ${what}, which stay until \`veneer gc\` finds them old enough`);
  }
  explain(self, 'only a copy of the records has tokens, access tokens and builds: --records begins with one');
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
