// Copies all records from one store to another, such as from a file to a database. Existing records are compared, not written again, so
// an interrupted copy is resumed by another run; a record in the target marks it as incomplete until all of it was read and compared.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { RecordPosition, ServiceStore, StoredRecord } from './acknowledged.ts';
import { LEASES } from './locks.ts';
import { type Change, COUNTS, compareKeys, RecordStoreFailed } from './store.ts';

type Store = Pick<ServiceStore, 'readAll' | 'get' | 'write' | 'id'>;

export interface Copied {
  readonly count: number;
  /** In hex: SHA-256 of all records in their order, with their expiry. */
  readonly digest: string;
}

interface CopyOptions {
  /** Selects collections: others are neither read nor changed. */
  readonly isWanted: (collection: string) => boolean;
  /** Called with the number of records that were copied, or existed. */
  readonly onProgress?: ((count: number) => void) | undefined;
}

/** The target has records that are not of this migration. */
export class MigrationRefused extends Error {
  override readonly name = 'MigrationRefused';
}

const MARK = { collection: 'migration', key: 'incomplete' } as const;
/** Collections of one process, or of this file. */
const LEFT_OUT: readonly string[] = [LEASES, COUNTS, MARK.collection];

const markSchema = z.object({ from: z.string() });

/** Marks the target as incomplete. Throws MigrationRefused unless it is empty, or has an incomplete copy of the same records. */
export async function beginMigration(from: Store, to: Store): Promise<void> {
  const mark = await to.get(MARK.collection, MARK.key);
  if (mark) {
    if (markSchema.parse(JSON.parse(new TextDecoder().decode(mark))).from === from.id) return;
    throw new MigrationRefused('the target has an incomplete copy of other records');
  }
  for await (const page of pagesOf(to, START)) {
    const [first] = page.filter(({ collection }) => !LEFT_OUT.includes(collection));
    if (first)
      throw new MigrationRefused(
        `the target has records of its own, such as one of the collection ${first.collection}`,
      );
  }
  const value = new TextEncoder().encode(JSON.stringify({ from: from.id }));
  await to.write([{ kind: 'put', ...MARK, value }]);
}

/** Marks the target as complete. */
export async function endMigration(to: Store): Promise<void> {
  await to.write([{ kind: 'delete', ...MARK }]);
}

/** Throws RecordStoreFailed for records that are the target of a migration that has not ended. */
export async function requireComplete(records: Pick<ServiceStore, 'get'>, name: string): Promise<void> {
  // Unreadable records are reported elsewhere.
  const mark = await records.get(MARK.collection, MARK.key).catch(() => undefined);
  if (!mark) return;
  throw new RecordStoreFailed(
    `the copy of the records in ${name} is incomplete: run \`veneer migrate\` again with the same options, or continue with the records that it was made from`,
  );
}

/**
 * Copies the selected records of `from` to `to`, and compares both at the end. Throws RecordStoreFailed if they differ, for instance
 * because they are changed meanwhile.
 */
export async function copyAll(from: Store, to: Store, { isWanted, onProgress }: CopyOptions): Promise<Copied> {
  const isCopied = ({ collection }: StoredRecord) => isWanted(collection) && !LEFT_OUT.includes(collection);
  const source = createSummary();
  let after: RecordPosition = START;
  for await (const page of pagesOf(from, START)) {
    const last = page.at(-1) ?? START;
    const wanted = page.filter(isCopied);
    const existing = (await readUntil(to, after, last)).filter(isCopied);
    const changes = changesFor(existing, wanted);
    if (changes.length > 0) await to.write(changes);
    for (const record of wanted) source.add(record);
    onProgress?.(source.end().count);
    after = last;
  }
  for await (const page of pagesOf(to, after)) {
    const changes = changesFor(page.filter(isCopied), []);
    if (changes.length > 0) await to.write(changes);
  }
  const target = createSummary();
  for await (const page of pagesOf(to, START)) for (const record of page.filter(isCopied)) target.add(record);
  const [expected, found] = [source.end(), target.end()];
  if (expected.count === found.count && expected.digest === found.digest) return found;
  throw new RecordStoreFailed(
    `the copy differs from the records: ${found.count} records with digest ${found.digest}, of ${expected.count} with ${expected.digest}; did something change them meanwhile?`,
  );
}

const START: RecordPosition = { collection: '', key: '' };
const MAX_RECORDS = 500;
/** The maximum size of a page: older releases have records of megabytes. */
const PAGE_BYTES = 4 * 1024 * 1024;

async function* pagesOf(store: Store, start: RecordPosition): AsyncGenerator<readonly StoredRecord[], void> {
  for (let [after, limit] = [start, 16]; ; ) {
    const page = await store.readAll(after, limit);
    const last = page.at(-1);
    if (!last) return;
    yield page;
    if (page.length < limit) return;
    after = last;
    const bytes = page.reduce((sum, { value }) => sum + value.byteLength, 1);
    limit = Math.min(MAX_RECORDS, Math.max(1, Math.floor((limit * PAGE_BYTES) / bytes)), 4 * limit);
  }
}

/** The records after a position, up to another one. */
async function readUntil(store: Store, after: RecordPosition, last: RecordPosition): Promise<readonly StoredRecord[]> {
  const found: StoredRecord[] = [];
  for await (const page of pagesOf(store, after)) {
    const within = page.filter(record => comparePositions(record, last) <= 0);
    found.push(...within);
    if (within.length < page.length) break;
  }
  return found;
}

function changesFor(existing: readonly StoredRecord[], wanted: readonly StoredRecord[]): readonly Change[] {
  const left = new Map(existing.map(record => [nameOf(record), record]));
  const puts: Change[] = [];
  for (const record of wanted) {
    const there = left.get(nameOf(record));
    left.delete(nameOf(record));
    if (there && isEqual(there, record)) continue;
    const { collection, key, value, expiresAt } = record;
    puts.push({ kind: 'put', collection, key, value, ...(expiresAt && { expiresAt }) });
  }
  return [...puts, ...[...left.values()].map(({ collection, key }) => ({ kind: 'delete', collection, key }) as const)];
}

/** Collections have no slash in their names. */
function nameOf({ collection, key }: RecordPosition): string {
  return `${collection}/${key}`;
}

function isEqual(a: StoredRecord, b: StoredRecord): boolean {
  return a.expiresAt?.getTime() === b.expiresAt?.getTime() && Buffer.compare(a.value, b.value) === 0;
}

function comparePositions(a: RecordPosition, b: RecordPosition): number {
  return compareKeys(a.collection, b.collection) || compareKeys(a.key, b.key);
}

function createSummary() {
  const hash = createHash('sha256');
  let count = 0;
  return {
    add({ collection, key, value, expiresAt }: StoredRecord): void {
      count += 1;
      hash.update(JSON.stringify([collection, key, expiresAt?.getTime() ?? null, value.byteLength])).update(value);
    },
    end: (): Copied => ({ count, digest: hash.copy().digest('hex') }),
  };
}
