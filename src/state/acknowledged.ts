// Whether records and content belong together. The records count their writes; a small file beside them, which no copy of the records
// includes, identifies them and their last acknowledged write. It is written after each commit and before its acknowledgement, so it is
// never ahead of the records, unless they were lost, replaced or rolled back.
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { RecordStore } from './store.ts';

/** `whole`: nothing is known to be wrong. Otherwise nothing may be deleted because it has no record. */
export type RecordsCondition = { readonly kind: 'whole' } | RecordsFault;

/** Records of a service, whose content is in a data directory. */
export interface ServiceStore extends RecordStore {
  /** As found when the store was opened, and since. Unless it is whole, nothing may be deleted for lack of a record. */
  readonly condition: RecordsCondition;
  /** Identifies the records for as long as they exist, as when the store was opened. */
  readonly id: string;
  /** All records after a position, in the order of collections and then of keys; those that have expired, too. For copies. */
  readAll(after: RecordPosition, limit: number): Promise<readonly StoredRecord[]>;
}

/** The first position is that of two empty texts. */
export type RecordPosition = Pick<StoredRecord, 'collection' | 'key'>;

export interface StoredRecord {
  readonly collection: string;
  readonly key: string;
  readonly value: Uint8Array;
  readonly expiresAt: Date | undefined;
}

export interface RecordsFault {
  readonly kind: 'gone' | 'other' | 'older' | 'damaged';
  /** What is wrong, in one line without paths. */
  readonly reason: string;
  /** What the operator can do. */
  readonly remedy: string;
}

/** Identifies the records, and counts their writes. */
export interface Generation {
  readonly id: string;
  readonly sequence: number;
}

export const WHOLE = { kind: 'whole' } as const;

const REASONS = {
  gone: 'the records are gone: there is content that was stored with them, or a note of their writes, but the records are new',
  other: 'the records are not those that the content was stored with',
  older: 'the records are older than what was acknowledged: they are an earlier copy, or their write-ahead log is gone',
  damaged: 'the records are damaged: part of what was written to the disk cannot be read, or makes no sense',
} as const;

const REMEDY =
  'pulls continue with the records as they are, and nothing is garbage-collected. Stop Veneer and put the right records.db back, with its -wal if it has one, or a backup (`veneer restore`); ' +
  'or run `veneer repair` to rebuild what it can from the content, and accept the rest as lost';

export function faultOf(kind: RecordsFault['kind'], remedy = REMEDY): RecordsFault {
  return { kind, reason: REASONS[kind], remedy };
}

/** Why nothing may be deleted for lack of a record, and what to do; undefined where it may. */
export function findReasonToKeep(condition: RecordsCondition): string | undefined {
  return condition.kind === 'whole' ? undefined : `${condition.reason}: ${condition.remedy}`;
}

export function isFaultKind(text: unknown): text is RecordsFault['kind'] {
  return typeof text === 'string' && Object.hasOwn(REASONS, text);
}

/** `noted` must be read before the records, as they go ahead of it. */
export function compare(noted: Generation | undefined, records: Generation): RecordsCondition {
  if (!noted) return WHOLE;
  if (noted.id !== records.id) return faultOf('other');
  return noted.sequence > records.sequence ? faultOf('older') : WHOLE;
}

/** A generation, and whether more writes may have followed. */
interface Note extends Generation {
  readonly isOpen: boolean;
}

const FILE = 'acknowledged.json';
/** Of fixed length, so that it is written at once and in place, even on a full disk. */
const LENGTH = 128;

/** Undefined where there is none, as in a directory of an older release, or where it cannot be read. */
export function readAcknowledged(directory: string): Note | undefined {
  try {
    const { id, sequence, isOpen = false } = JSON.parse(readFileSync(join(directory, FILE), 'utf8'));
    return typeof id === 'string' && Number.isSafeInteger(sequence) ? { id, sequence, isOpen } : undefined;
  } catch {
    return undefined;
  }
}

/** To be called when other records replace those of the directory. */
export function forgetAcknowledged(directory: string): void {
  rmSync(join(directory, FILE), { force: true });
}

interface Acknowledged {
  /** Never throws: a write that cannot be noted is durable nonetheless, and is noted with the next. */
  note(note: Note): void;
  close(): void;
}

export function createAcknowledged(directory: string): Acknowledged {
  let file: number | undefined;
  return {
    note(note) {
      const text = Buffer.from(`${JSON.stringify(note).padEnd(LENGTH - 1)}\n`);
      try {
        if (file === undefined) {
          file = openSync(join(directory, FILE), constants.O_WRONLY | constants.O_CREAT, 0o600);
          writeSync(file, text, 0, text.length, 0);
          // Synced: after a power cut it must be known that there were writes.
          fsyncSync(file);
        } else {
          writeSync(file, text, 0, text.length, 0);
        }
      } catch {
        close();
      }
    },
    close,
  };

  function close(): void {
    if (file !== undefined) closeSync(file);
    file = undefined;
  }
}

/** Content that only records refer to, and that cannot be fetched again. */
const STORED_BYTES = ['hosted/blobs', 'tokens/blobs', 'rules/blobs'];

/** Whether a data directory has content that only records refer to. */
export function hasStoredBytes(directory: string): boolean {
  return STORED_BYTES.some(folder => hasFile(join(directory, folder)));
}

function hasFile(directory: string): boolean {
  if (!existsSync(directory)) return false;
  const entries = readdirSync(directory, { withFileTypes: true });
  return entries.some(entry => (entry.isDirectory() ? hasFile(join(directory, entry.name)) : entry.isFile()));
}
