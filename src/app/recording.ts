// Wires the records of the service, and reports their condition to the operator.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import { findReasonToKeep } from '../state/acknowledged.ts';
import { createReservedStore, type Reserve } from '../state/reserve.ts';
import { createSqliteStore, type SqliteStore } from '../state/sqlite.ts';

interface Recording {
  readonly records: SqliteStore;
  /** Why nothing may be deleted for lack of a record; undefined where it may. */
  reasonToKeep(): string | undefined;
  /** Rejects while records are unreadable. */
  checkReady(): Promise<void>;
  /** Why the service is not ready, although it serves requests; without local paths. */
  listFaults(): readonly string[];
}

/** How long readiness waits for the check of all records: for large ones it takes longer, while requests are served. */
const CHECK_MS = 10_000;

/** The caller closes the records. */
export function openRecords({
  config: { dataDir },
  log,
  now,
  reserve,
}: {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly reserve: Reserve;
}): Recording {
  const path = join(dataDir, 'records.db');
  const store = createSqliteStore({
    path,
    now,
    onUnreadable: error => log.error({ err: error }, 'a record is unreadable and is skipped; no others are affected'),
  });
  const records = createReservedStore(store, reserve);
  // The opened file: another one under its name does not count.
  const file = findFile(path);
  let isInPlace = true;
  const reasonToKeep = () => findReasonToKeep(records.condition);
  const logCondition = () => {
    const reason = reasonToKeep();
    if (reason !== undefined) log.error({ dataDir, condition: records.condition.kind }, reason);
  };
  logCondition();
  let isChecking = true;
  const waitsUntil = performance.now() + CHECK_MS;
  void records.check().then(() => {
    isChecking = false;
    if (records.condition.kind === 'damaged') logCondition();
  });
  return {
    ...{ records, reasonToKeep },
    async checkReady() {
      await records.get('token', '');
      isInPlace = findFile(path) === file;
    },
    listFaults() {
      const { condition } = records;
      if (condition.kind !== 'whole') return [condition.reason];
      if (!isInPlace) return ['the records were removed or replaced while Veneer was running: nothing can be written'];
      const isWaiting = isChecking && performance.now() < waitsUntil;
      return isWaiting ? ['checking the records after an unclean shutdown'] : [];
    },
  };
}

function findFile(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
