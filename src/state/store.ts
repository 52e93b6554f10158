// Records: small values by collection and key, with an expiry. The interface that test/contract/record-store.ts checks.

export interface RecordStore {
  /** The value; undefined when there is none or it has expired. */
  get(collection: string, key: string): Promise<Uint8Array | undefined>;
  /** Durable when it resolves. Without `expiresAt` the record stays until it is deleted. */
  put(collection: string, key: string, value: Uint8Array, options?: PutOptions): Promise<void>;
  /** Whether there was such a record. */
  delete(collection: string, key: string): Promise<boolean>;
  /** Makes all changes, in their order, or none of them; durable when it resolves. No reader sees a part of them. */
  write(changes: readonly Change[], options?: WriteOptions): Promise<void>;
  /** Keys in ascending order, at most `limit` of them. Where that is more than a few hundred, changes made meanwhile may be in it or not. */
  list(collection: string, options: ListOptions): Promise<readonly string[]>;
  /** What `list` gives, with the values. */
  entries(collection: string, options: ListOptions): Promise<readonly Entry<Uint8Array>[]>;
  /** Removes what has expired, or a part of it where that is much: how many records that were. None: all of it is gone. */
  sweep(): Promise<number>;
  close(): Promise<void>;
  /** Hears of records that were left out because they cannot be read. */
  readonly onUnreadable?: ((error: RecordUnreadable) => void) | undefined;
}

/** A record of a shape that this release does not know. It spoils nothing but itself. */
export class RecordUnreadable extends Error {
  override readonly name = 'RecordUnreadable';
}

interface WriteOptions {
  /** Whether the changes let something go that takes more room than they do: then they may use what a full disk has in reserve. */
  readonly makesRoom?: boolean;
}

export interface PutOptions {
  readonly expiresAt?: Date;
}

/** Deleting a record that is not there changes nothing. */
export type Change =
  | {
      readonly kind: 'put';
      readonly collection: string;
      readonly key: string;
      readonly value: Uint8Array;
      readonly expiresAt?: Date;
    }
  | { readonly kind: 'delete'; readonly collection: string; readonly key: string };

export interface ListOptions {
  /** Only keys that begin with it. */
  readonly prefix?: string;
  /** Only keys after it. */
  readonly after?: string;
  readonly limit: number;
}

export interface Entry<V> {
  readonly key: string;
  readonly value: V;
}

/** Another program holds the lock of the records, and went on to: nothing was changed. It may be tried again. */
export class RecordStoreBusy extends Error {
  override readonly name = 'RecordStoreBusy';
  readonly code = 'EBUSY';
}

/** The records cannot be read or written until somebody looks after them: nothing was changed. Its code is the file system's for a bad disk. */
export class RecordStoreFailed extends Error {
  override readonly name: string = 'RecordStoreFailed';
  readonly code = 'EIO';
}

/** What the records lie in is damaged. */
export class RecordStoreDamaged extends RecordStoreFailed {
  override readonly name = 'RecordStoreDamaged';
}

/** The disk that holds the records is full: nothing was changed. Its code is the one that the file system uses. */
export class RecordStoreFull extends Error {
  override readonly name = 'RecordStoreFull';
  readonly code = 'ENOSPC';
}
