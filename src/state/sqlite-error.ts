// SQLite errors: their form when sent between threads, and their mapping to errors of the record store.
import {
  type Expectation,
  RecordConflict,
  RecordStoreBusy,
  RecordStoreDamaged,
  RecordStoreFailed,
  RecordStoreFull,
} from './store.ts';

/** An error that can be sent to another thread. */
export interface Failure {
  readonly message: string;
  /** SQLite's own. */
  readonly errcode: number | undefined;
  /** The record that was not as expected. */
  readonly conflict?: Pick<Expectation, 'collection' | 'key'>;
}

export function toFailure(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), errcode: undefined };
  if (error instanceof RecordConflict) return { message: error.message, errcode: undefined, conflict: error.record };
  return { message: error.message, errcode: 'errcode' in error ? Number(error.errcode) : undefined };
}

const SQLITE = { busy: 5, corrupt: 11, full: 13, noDatabase: 26, noRoomForShared: 4874 } as const;

/** RecordConflict, RecordStoreFull, RecordStoreBusy or RecordStoreDamaged where it is one of these, else RecordStoreFailed. */
export function toError({ message, errcode, conflict }: Failure): Error {
  if (conflict) return new RecordConflict(conflict);
  const kind = kindOf(errcode);
  if (kind === SQLITE.full || errcode === SQLITE.noRoomForShared) {
    return new RecordStoreFull('the disk of the record store is full: free some space', {
      cause: message,
    });
  }
  if (kind === SQLITE.busy) {
    return new RecordStoreBusy('another program holds the lock of the records', { cause: message });
  }
  if (kind === SQLITE.corrupt || kind === SQLITE.noDatabase) return new RecordStoreDamaged(message);
  return new RecordStoreFailed(`the record store has failed: ${message}`);
}

export function isBusy({ errcode }: Failure): boolean {
  return kindOf(errcode) === SQLITE.busy;
}

/** The primary code is the lowest byte; the others add detail. */
function kindOf(errcode: number | undefined): number | undefined {
  return errcode === undefined ? undefined : errcode & 0xff;
}
