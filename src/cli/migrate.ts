// `veneer migrate`: moves the records of a data directory from its file to a database, or back. Content stays where it is, and the source
// of the records is not changed.
import { existsSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { createAcknowledged, readAcknowledged, type ServiceStore } from '../state/acknowledged.ts';
import { StateFault } from '../state/data-directory.ts';
import { beginMigration, type Copied, copyAll, endMigration, MigrationRefused } from '../state/migration.ts';
import { RecordStoreHeld } from '../state/postgres-connection.ts';
import { createSqliteStore, type SqliteStore } from '../state/sqlite.ts';
import { RecordStoreAway, RecordStoreFailed, RecordStoreFull } from '../state/store.ts';
import { own } from './backup.ts';
import { print, printJson } from './output.ts';

interface MigrationTarget {
  readonly dataDir: string;
  /** The schema of the database; undefined where the configuration names no database. */
  readonly schema: string | undefined;
  /** Opens and holds the records of the database; `directory` has the content that they belong to. */
  openDatabase(directory: string): Promise<ServiceStore>;
  /** Collections that stay in a file beside the content when the others are in a database. */
  readonly isOfCache: (collection: string) => boolean;
}

interface MigrateOptions {
  readonly from: Engine;
  readonly to: Engine;
  readonly json?: boolean;
}

type Engine = (typeof ENGINES)[number];

const ENGINES = ['sqlite', 'postgres'] as const;
const RECORDS = 'records.db';
const CACHE_RECORDS = join('node', RECORDS);
const NAMES: Readonly<Record<Engine, string>> = { sqlite: RECORDS, postgres: 'the database' };

export function createMigrateCommand({
  findTarget,
  isTerminal,
}: {
  /** Called when the command runs. */
  readonly findTarget: () => MigrationTarget;
  /** Whether standard error is a terminal, to show progress. */
  readonly isTerminal: boolean;
}): Command {
  const engine = (flags: string, description: string) =>
    new Option(flags, description).choices(ENGINES).makeOptionMandatory();
  return new Command('migrate')
    .description('moves the records between records.db and the database in state.postgres; stop the service first')
    .addOption(engine('--from <engine>', 'the current store of the records'))
    .addOption(engine('--to <engine>', 'the new store'))
    .option('--json', 'prints how many records there are, and their digest, as JSON')
    .action(async ({ from, to, json }: MigrateOptions, self: Command) => {
      const target = findTarget();
      const dataDir = resolve(target.dataDir);
      if (from === to) self.error(`error: the records are to go from ${from} to ${to}: name two engines`);
      if (target.schema === undefined) self.error('error: the configuration names no database: set state.postgres.url');
      const owner = own(self, dataDir);
      const progress = createProgress(self, isTerminal);
      try {
        const migration: Migration = { ...target, dataDir, onProgress: progress.show };
        const copied = from === 'sqlite' ? await moveToDatabase(migration) : await moveToFile(migration);
        progress.clear();
        if (json) printJson(self, { from, to, ...copied });
        else print(self, `${NAMES[to]} has all ${copied.count} records, with digest ${copied.digest}; ${NEXT[to]}`);
      } catch (error) {
        progress.clear();
        self.error(`error: ${describe(error, to)}`);
      } finally {
        owner.release();
      }
    });
}

const NEXT: Readonly<Record<Engine, string>> = {
  sqlite: 'remove state.postgres from the configuration, and start the service',
  postgres: 'start the service',
};

interface Migration extends MigrationTarget {
  readonly onProgress: (count: number) => void;
}

/** Rethrows errors that an operator cannot fix. */
function describe(error: unknown, to: Engine): string {
  if (error instanceof MigrationRefused) return `${NAMES[to]} was not changed: ${error.message}. ${REMEDIES[to]}`;
  const known = [StateFault, RecordStoreHeld, RecordStoreAway, RecordStoreFailed, RecordStoreFull];
  if (error instanceof Error && known.some(each => error instanceof each)) return error.message;
  throw error;
}

const REMEDIES: Readonly<Record<Engine, string>> = {
  sqlite: 'Move records.db away, with the files beside it',
  postgres: 'Name another schema in state.postgres.schema, or drop this one',
};

/** The file is renamed at the end, as the service no longer uses it. */
async function moveToDatabase({ dataDir, openDatabase, isOfCache, onProgress }: Migration): Promise<Copied> {
  const path = join(dataDir, RECORDS);
  if (!existsSync(path)) throw new RecordStoreFailed(`there are no records in ${dataDir}: name the data directory`);
  await using opened = new AsyncDisposableStack();
  const file = opened.adopt(createSqliteStore({ path }), close);
  // Which records the content belongs to is noted at the end.
  const scratch = opened.adopt(await mkdtemp(join(tmpdir(), 'veneer-migrate-')), removeFolder);
  const database = opened.adopt(await openDatabase(scratch), close);
  await file.check();
  if (!isNotedAs(dataDir, database.id)) requireWhole(file);
  await beginMigration(file, database);
  const copied = await copyAll(file, database, { isWanted: collection => !isOfCache(collection), onProgress });
  const cache = opened.adopt(createSqliteStore({ path: join(dataDir, CACHE_RECORDS) }), close);
  await copyAll(file, cache, { isWanted: isOfCache });
  noteRecords(dataDir, database.id);
  await endMigration(database);
  await file.close();
  await moveAside(path);
  return copied;
}

/** Records that the content belongs to these records, and to no others. */
function noteRecords(dataDir: string, id: string): void {
  const acknowledged = createAcknowledged(dataDir);
  acknowledged.note({ id, sequence: 0, isOpen: false });
  acknowledged.close();
}

async function moveAside(path: string): Promise<void> {
  const aside = `${path}.before-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`;
  // Closed, it has no log beside it.
  await rename(path, aside);
}

async function moveToFile({ dataDir, openDatabase, isOfCache, onProgress }: Migration): Promise<Copied> {
  await using opened = new AsyncDisposableStack();
  const database = opened.adopt(await openDatabase(dataDir), close);
  const hasTarget = existsSync(join(dataDir, RECORDS));
  // Once everything is copied the content belongs to the file.
  if (!hasTarget) requireWhole(database);
  const file = opened.adopt(createSqliteStore({ path: join(dataDir, RECORDS) }), close);
  await beginMigration(database, file);
  const copied = await copyAll(database, file, { isWanted: collection => !isOfCache(collection), onProgress });
  const cachePath = join(dataDir, CACHE_RECORDS);
  if (existsSync(cachePath)) {
    const cache = opened.adopt(createSqliteStore({ path: cachePath }), close);
    await copyAll(cache, file, { isWanted: isOfCache });
  }
  // They are now the records of the content, although they are new.
  await file.accept();
  await endMigration(file);
  return copied;
}

/** As where an earlier run was interrupted at its very end. */
function isNotedAs(dataDir: string, id: string): boolean {
  return readAcknowledged(dataDir)?.id === id;
}

function requireWhole({ condition }: Pick<ServiceStore, 'condition'>): void {
  if (condition.kind !== 'whole') throw new RecordStoreFailed(`${condition.reason}: ${condition.remedy}`);
}

async function close(store: Pick<SqliteStore, 'close'>): Promise<void> {
  await store.close();
}

async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

/** One line that is overwritten repeatedly, where there is a terminal. */
function createProgress(self: Command, isTerminal: boolean) {
  const write = isTerminal ? self.configureOutput().writeErr : undefined;
  return {
    show: (count: number) => write?.(`\r\u001b[K${count} records copied`),
    clear: () => write?.('\r\u001b[K'),
  };
}
