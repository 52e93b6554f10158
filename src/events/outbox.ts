// The outbox of one endpoint: events are in the record store until they are delivered, so that a stop or a crash loses none.
// Pulls are in memory alone: there are many, and each would cost a sync of the disk.
import type { Logger } from 'pino';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { eventSchema, type RegistryEvent } from './event.ts';

export interface Outbox {
  /** `kept` resolves when the event is on the disk, and never rejects: a fault is logged. */
  keep(event: RegistryEvent): OutboxEntry;
  /** Forgets an event that was delivered or dropped. Never rejects: a fault is logged, and the event comes again after a restart. */
  release(entry: OutboxEntry): Promise<void>;
  /** The oldest `limit` of what is kept, in the order in which it came. One that cannot be read is logged and left to expire. */
  restore(limit: number): Promise<readonly OutboxEntry[]>;
}

export interface OutboxEntry {
  readonly event: RegistryEvent;
  /** Absent for an event that is in memory alone. */
  readonly key?: string;
  readonly kept?: Promise<void>;
}

/** `name` is the endpoint's, without a slash. */
interface OutboxDeps {
  readonly records: RecordStore;
  readonly name: string;
  readonly now: () => Date;
  readonly log: Logger;
}

/** What is kept for an endpoint that left the configuration goes after this time. */
const KEEP_MS = 7 * 86_400_000;

export function createOutbox({ records, name, now, log }: OutboxDeps): Outbox {
  const events = createCollection({ store: records, name: 'event', schema: eventSchema });
  const prefix = `${name}/`;
  const report = (message: string) => (error: unknown) => log.error({ err: error }, message);
  let last = 0;
  return {
    keep(event) {
      if (event.action === 'pull') return { event };
      // The clock, but ascending for events of one millisecond too: keys are in the order of events.
      last = Math.max(last + 1, now().getTime() * 1000);
      const key = `${prefix}${String(last).padStart(16, '0')}`;
      const kept = events.put(key, event, { expiresAt: new Date(now().getTime() + KEEP_MS) });
      return { event, key, kept: kept.catch(report('an event could not be kept')) };
    },
    async release({ key, kept }) {
      await kept;
      if (key !== undefined) await events.delete(key).catch(report('an event could not be forgotten'));
    },
    async restore(limit) {
      const keys = (await events.list({ after: prefix, limit })).filter(key => key.startsWith(prefix));
      const found = await Promise.all(keys.map(key => events.get(key).catch(report('a kept event could not be read'))));
      return keys.flatMap((key, index) => (found[index] ? [{ event: found[index], key }] : []));
    },
  };
}
