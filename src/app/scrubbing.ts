// The scrubber as the configuration has it: its position is a record, its rounds are logged.
import type { Logger } from 'pino';
import { z } from 'zod';
import type { Config } from '../config/schema.ts';
import { CONTENT_KINDS, type StoredContent } from '../content/inventory.ts';
import { type Scrubber, type ScrubTotals, startScrubber } from '../content/scrubber.ts';
import { isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';

interface ScrubbingDeps {
  readonly config: Pick<Config, 'scrub'>;
  readonly log: Logger;
  readonly records: RecordStore;
  readonly kept: readonly StoredContent[];
}

const count = z.int().nonnegative();
const digest = z.string().refine(isDigest);

/** Undefined for a record of a shape that this version does not know: the round begins anew. */
const cursorSchema = z
  .object({
    part: count.max(255),
    after: z.object({ of: z.enum(CONTENT_KINDS), digest }).optional(),
    ...{ count, bytes: count, damaged: count, ranMs: count },
  })
  .optional()
  .catch(undefined);

const KEY = 'place';

/** Undefined where nothing is to be scrubbed. */
export function createScrubbing({ config, log, records, kept }: ScrubbingDeps): Scrubber | undefined {
  const { everyMs, bytesPerSecond } = config.scrub;
  if (everyMs === undefined) return undefined;
  const cursors = createCollection({ store: records, name: 'scrub', schema: cursorSchema });
  return startScrubber({
    ...{ kept, everyMs, bytesPerSecond },
    cursors: { find: () => cursors.get(KEY), save: cursor => cursors.put(KEY, cursor) },
    onRound: round => logRound(log, round, everyMs),
    onFailed: error => log.error({ err: error }, 'kept content could not be scrubbed: the next round tries again'),
  });
}

/** A slow disk, or a low rate, makes a round longer than it is to be. */
function logRound(log: Logger, { count, bytes, damaged, ranMs }: ScrubTotals, everyMs: number): void {
  const facts = { count, bytes, damaged, ranMs };
  if (ranMs > everyMs * 1.1) log.warn(facts, 'all kept content was read, in more than scrub.every: raise scrub.rate');
  else log.info(facts, 'all kept content was read');
}
