// Stored content of all kinds: its directories, the scrubber that finds damage, and the report of damage to the log and to webhooks, once.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { z } from 'zod';
import { REMEDIES } from '../cache/admin/cache-admin.ts';
import type { Config } from '../config/schema.ts';
import { CONTENT_KINDS, type ContentKind, type StoredContent } from '../content/inventory.ts';
import { type Scrubber, type ScrubTotals, startScrubber } from '../content/scrubber.ts';
import type { Damage } from '../content/verification.ts';
import type { RegistryEvents } from '../http/distribution/registry-events.ts';
import { isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';

/** In the data directory. */
export function contentFolder(dataDir: string, of: ContentKind): string {
  return join(dataDir, FOLDERS[of]);
}

const FOLDERS: Record<ContentKind, string> = {
  hosted: 'hosted',
  cache: 'content',
  rules: 'rules',
  tokens: 'tokens',
  contexts: join('builds', 'contexts'),
};

/** The maximum of damaged content that is retained where only a push can repair it: parts of it may be recoverable. */
export const MAX_DAMAGED_BYTES = 1024 ** 3;

interface Damaged extends Damage {
  readonly of: ContentKind;
  /** The full names of the repositories that link it. */
  readonly repositories: readonly string[];
  /** Whether it was restored from memory. */
  readonly isRestored: boolean;
}

export type ReportDamage = (damaged: Damaged) => void;

export function createReportDamage({
  log,
  events,
  onDamaged,
}: {
  readonly log: Logger;
  readonly events: Pick<RegistryEvents, 'damaged'>;
  readonly onDamaged?: ((damaged: Pick<Damaged, 'of' | 'isRestored'>) => void) | undefined;
}): ReportDamage {
  return ({ of, digest, size, reason, setAside, repositories, isRestored }) => {
    const remedy = isRestored ? 'it was restored from memory' : REMEDIES[of];
    log.error(
      { of, digest, size, repositories, setAside, reason },
      `stored content was damaged by the disk: ${remedy}`,
    );
    events.damaged({ digest, size, repositories });
    onDamaged?.({ of, isRestored });
  };
}

const count = z.int().nonnegative();
const digest = z.string().refine(isDigest);

/** Undefined for a record in a format that this version does not know: the round restarts. */
const cursorSchema = z
  .object({
    part: count.max(255),
    after: z.object({ of: z.enum(CONTENT_KINDS), digest }).optional(),
    ...{ count, bytes: count, damaged: count, ranMs: count },
  })
  .optional()
  .catch(undefined);

const KEY = 'place';

/** Undefined where scrubbing is off. */
export function createScrubbing({
  config,
  log,
  records,
  stores,
}: {
  readonly config: Pick<Config, 'scrub'>;
  readonly log: Logger;
  readonly records: RecordStore;
  readonly stores: readonly StoredContent[];
}): Scrubber | undefined {
  const { everyMs, bytesPerSecond } = config.scrub;
  if (everyMs === undefined) return undefined;
  const cursors = createCollection({ store: records, name: 'scrub', schema: cursorSchema });
  return startScrubber({
    ...{ stores, everyMs, bytesPerSecond },
    cursors: { find: () => cursors.get(KEY), save: cursor => cursors.put(KEY, cursor) },
    onRound: round => logRound(log, round, everyMs),
    onFailed: error => log.error({ err: error }, 'stored content could not be scrubbed: the next round will retry'),
  });
}

/** A slow disk, or a low rate, makes a round take longer than configured. */
function logRound(log: Logger, { count, bytes, damaged, ranMs }: ScrubTotals, everyMs: number): void {
  const facts = { count, bytes, damaged, ranMs };
  if (ranMs > everyMs * 1.1)
    log.warn(facts, 'scrubbed all stored content, but took longer than scrub.every: raise scrub.rate');
  else log.info(facts, 'scrubbed all stored content');
}
