// Records: small values by collection and key, with an expiry. The interface that test/contract/record-store.ts checks.
import { setTimeout as sleep } from 'node:timers/promises';

export interface RecordStore {
  /** The value; undefined when there is none or it has expired. */
  get(collection: string, key: string): Promise<Uint8Array | undefined>;
  /** Durable when it resolves. Without `expiresAt` the record stays until it is deleted. */
  put(collection: string, key: string, value: Uint8Array, options?: PutOptions): Promise<void>;
  /** Returns whether there was such a record. */
  delete(collection: string, key: string): Promise<boolean>;
  /**
   * Applies all changes, in order, or none of them; durable when it resolves. Readers never see a part of them. Throws RecordConflict where
   * a record is not as expected: then nothing was changed.
   */
  write(changes: readonly Change[], options?: WriteOptions): Promise<void>;
  /** Keys in ascending order, at most `limit` of them. Beyond a few hundred, concurrent changes may be included or not. */
  list(collection: string, options: ListOptions): Promise<readonly string[]>;
  /** Like `list`, with the values. */
  entries(collection: string, options: ListOptions): Promise<readonly Entry<Uint8Array>[]>;
  /** Removes expired records, or a part of them if there are many; returns how many. 0: none is left. */
  sweep(): Promise<number>;
  /**
   * A number that changes whenever any process changes records: what was read under the same number is still true, unless it has expired.
   * Undefined while the number is unknown. Cheap enough for every request.
   */
  version(): number | undefined;
  /** Locks by key, shared by all who may write these records; of one process alone where only that may. */
  readonly locks: Locks;
  close(): Promise<void>;
  /** Called with records that were skipped because they are unreadable. */
  readonly onUnreadable?: ((error: RecordUnreadable) => void) | undefined;
}

/** A record in a format that this release does not know. Others are not affected. */
export class RecordUnreadable extends Error {
  override readonly name = 'RecordUnreadable';
}

export interface PutOptions {
  readonly expiresAt?: Date;
  /** In place of `expiresAt`: milliseconds from the write on, by the clock of the store, which all its users share. */
  readonly ttlMs?: number;
}

/** Deleting an absent record has no effect. */
export type Change =
  | ({
      readonly kind: 'put';
      readonly collection: string;
      readonly key: string;
      readonly value: Uint8Array;
    } & PutOptions)
  | { readonly kind: 'delete'; readonly collection: string; readonly key: string };

export interface WriteOptions {
  /** Whether the changes free more space than they take: they may then use the reserve of a full disk. */
  readonly makesRoom?: boolean;
  /** Compared in the transaction that makes the changes: no write of anybody comes between the two. */
  readonly expected?: readonly Expectation[];
  /** Whether a crash of the store may take the changes back, as it may a lease: they need not wait for the disk. */
  readonly isVolatile?: boolean;
}

/** What a record has to be for a write to be made. */
export interface Expectation {
  readonly collection: string;
  readonly key: string;
  /** Undefined: there is no such record, or it has expired. */
  readonly value: Uint8Array | undefined;
}

export interface Locks {
  /**
   * Runs `work` exclusively under its key: in order within a process, in any order across processes. Must not be nested under
   * one key. Throws RecordStoreBusy if others hold the lock for too long.
   */
  withLock<T>(key: string, work: (lock: Lock) => Promise<T>, options?: LockOptions): Promise<T>;
  /** The same where the key is free; otherwise undefined, and `work` does not run. */
  withFreeLock<T>(key: string, work: (lock: Lock) => Promise<T>, options?: LockOptions): Promise<T | undefined>;
  /** Whether any work of this process runs or waits under this key. */
  isLocked(key: string): boolean;
  /** The keys with this prefix that any process has, in order; of many only some. */
  listHeld(prefix: string): Promise<readonly string[]>;
  /** Whether other processes may have them, too: then what is known in memory may be out of date. */
  readonly areShared: boolean;
}

interface LockOptions {
  /** How long it blocks others after the death of its holder, in place of the default. */
  readonly ttlMs?: number;
}

export interface Lock {
  /** Expected by each write that relies on the lock: it fails once the lock has passed to another holder, or may have. */
  readonly fence: readonly Expectation[];
  /** Aborted once the lock is lost, as far as this process knows. */
  readonly lost: AbortSignal;
  /**
   * To be awaited right before what no record can fence, such as the deletion of a file: from then on the lock is held for some more seconds.
   * Throws RecordConflict where it is lost.
   */
  confirm(): Promise<void>;
}

export interface ListOptions {
  /** Only keys with this prefix. */
  readonly prefix?: string;
  /** Only keys after it. */
  readonly after?: string;
  readonly limit: number;
}

export interface Entry<V> {
  readonly key: string;
  readonly value: V;
}

/** Everything that `read` lists, in pages of `limit`, none of them empty. Records written meanwhile may be included or not. */
export async function* pagesOf<T extends string | Entry<unknown>>(
  read: (options: ListOptions) => Promise<readonly T[]>,
  options: ListOptions,
): AsyncGenerator<readonly T[], void> {
  for (let { after = '' } = options; ; ) {
    const page = await read({ ...options, after });
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    if (page.length < options.limit) return;
    after = typeof last === 'string' ? last : last.key;
  }
}

const KEYS = 1000;
/** Values take more memory than keys. */
const ENTRIES = 500;

/** All keys with a prefix, or those after another key, read page by page as `pagesOf` does. */
export async function* keysOf(
  { list }: { readonly list: (options: ListOptions) => Promise<readonly string[]> },
  prefix: string,
  after = '',
): AsyncGenerator<string, void> {
  for await (const page of pagesOf(list, { prefix, after, limit: KEYS })) yield* page;
}

/** The same, with the values. */
export async function* entriesOf<E extends Entry<unknown>>(
  { entries }: { readonly entries: (options: ListOptions) => Promise<readonly E[]> },
  prefix: string,
): AsyncGenerator<E, void> {
  for await (const page of pagesOf(entries, { prefix, limit: ENTRIES })) yield* page;
}

/** How many keys a scan reads at once: more while they answer for several prefixes. */
const SCANNED = { least: 8, most: 500 } as const;

/**
 * Whether there is a key with a prefix that `isLeft`, for many prefixes in ascending order: keys are read many at once, and may have changed
 * since. They are of ASCII, which JavaScript orders as the records are.
 */
export function scanPrefixes(
  { list }: { readonly list: (options: ListOptions) => Promise<readonly string[]> },
  isLeft: (key: string) => boolean = () => true,
): (prefix: string) => Promise<boolean> {
  let page: readonly string[] = [];
  let limit: number = SCANNED.least;
  let at = 0;
  let answered = 0;
  let isLast = false;
  return async prefix => {
    for (;;) {
      for (let key = page[at]; key !== undefined; key = page[at]) {
        if (key.startsWith(prefix) ? isLeft(key) : key > prefix) {
          answered += 1;
          return key.startsWith(prefix);
        }
        at += 1;
      }
      if (isLast) return false;
      const [after = prefix] = [prefix, ...page.slice(-1)].sort().reverse();
      limit = Math.min(Math.max(answered * 8, SCANNED.least), SCANNED.most);
      page = await list({ after, limit });
      at = 0;
      answered = 0;
      isLast = page.length < limit;
    }
  };
}

/** Another program holds the lock of the records: nothing was changed. May be retried. */
export class RecordStoreBusy extends Error {
  override readonly name = 'RecordStoreBusy';
  readonly code = 'EBUSY';
}

/** A record is not as a write expected it: somebody else has changed it, or a lock has been lost. Nothing was changed. */
export class RecordConflict extends Error {
  override readonly name = 'RecordConflict';
  readonly code = 'ERECORDCONFLICT';
  readonly record: Pick<Expectation, 'collection' | 'key'>;

  constructor({ collection, key }: Pick<Expectation, 'collection' | 'key'>, options?: ErrorOptions) {
    super(`the record ${collection}/${key} was changed meanwhile`, options);
    this.record = { collection, key };
  }
}

/** For each, somebody else changed what the work had read. */
const MAX_ATTEMPTS = 100;

/**
 * Runs work that reads records and then expects them, and runs it again where one of them was changed meanwhile. Other conflicts are the
 * caller's.
 */
export async function repeatOnConflict<T>(
  isOwn: (record: RecordConflict['record']) => boolean,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      // A store may not know which record it was.
      const isRepeated = error instanceof RecordConflict && (error.record.collection === '' || isOwn(error.record));
      if (!isRepeated || attempt === MAX_ATTEMPTS) throw error;
      if (attempt > 1) await sleep(Math.random() * Math.min(attempt, 10));
    }
  }
}

/** The server of the records does not answer, or ended the connection: a change may have been made or not. May be retried. */
export class RecordStoreAway extends Error {
  override readonly name = 'RecordStoreAway';
  readonly code = 'ERECORDSAWAY';
}

/**
 * The records cannot be read or written until an operator repairs them: nothing was changed. Its code is the file system's for a bad disk.
 */
export class RecordStoreFailed extends Error {
  override readonly name: string = 'RecordStoreFailed';
  readonly code = 'EIO';
}

/** The file of the records is damaged. */
export class RecordStoreDamaged extends RecordStoreFailed {
  override readonly name = 'RecordStoreDamaged';
}

/** The disk that holds the records is full: nothing was changed. Its code is the file system's. */
export class RecordStoreFull extends Error {
  override readonly name = 'RecordStoreFull';
  readonly code = 'ENOSPC';
}

/** Whether an error of a store passes, and what is not needed at once may be left unwritten. */
export function isTransient(error: unknown): boolean {
  return [RecordStoreBusy, RecordStoreAway, RecordStoreFull].some(known => error instanceof known);
}

/** A collection of what changes all the time, and is compared and set by all who share the records: it is neither cached nor announced. */
export const COUNTS = 'count';

/** The order of keys: by their UTF-8 bytes, as SQLite and Redis compare. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

const LAST = 0x10ffff;
const SURROGATES = { first: 0xd800, last: 0xdfff } as const;

/** The smallest string that is greater than every string with this prefix; undefined where there is none, as for an empty prefix. */
export function endOfPrefix(prefix: string): string | undefined {
  const character = /.$/su.exec(prefix)?.[0];
  if (character === undefined) return undefined;
  const rest = prefix.slice(0, -character.length);
  const point = character.codePointAt(0) ?? 0;
  if (point === LAST) return endOfPrefix(rest);
  const next = point + 1 === SURROGATES.first ? SURROGATES.last + 1 : point + 1;
  return rest + String.fromCodePoint(next);
}
