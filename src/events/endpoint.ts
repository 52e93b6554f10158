// The queue of one endpoint: events are delivered in order, in batches, and the oldest are dropped when too many are queued.
import PQueue from 'p-queue';
import type { Logger } from 'pino';
import { createCollection } from '../state/collection.ts';
import { keysOf, type ListOptions, type RecordStore } from '../state/store.ts';
import { eventSchema, type RegistryEvent } from './event.ts';
import { type Owner, untilAborted } from './owners.ts';
import { type Deliver, DeliveryError } from './webhook.ts';

export interface Endpoint {
  /** Never rejects. Resolves when the event is stored, if it needs to be. No effect after `close`. */
  accept(event: RegistryEvent): Promise<void>;
  /** Delivers the stored events of a process that is gone; resolves when none is left, or on `until`. Rejects where they cannot be read. */
  adopt(owner: string, until: AbortSignal): Promise<void>;
  /** How many events are not delivered yet. */
  readonly waiting: number;
  /** How many were dropped. */
  readonly dropped: number;
  /** Resolves when everything is delivered, or after `drainMs`, when the current delivery is aborted. */
  close(): Promise<void>;
}

export interface QueueLimits {
  /** The maximum number of events in one POST. */
  readonly maxBatch: number;
  /** The maximum number of queued events, besides those being delivered. */
  readonly maxQueued: number;
  readonly drainMs: number;
}

export function createEndpoint({
  outbox,
  deliver,
  log,
  now,
  limits,
}: {
  readonly outbox: Outbox;
  readonly deliver: Deliver;
  readonly log: Logger;
  readonly now: () => Date;
  readonly limits: QueueLimits;
}): Endpoint {
  const queue = new PQueue({ concurrency: 1 });
  const stop = new AbortController();
  const overflow = createOverflow({ log, now });
  const waiting: OutboxEntry[] = [];
  /** Of adopted events. */
  const onReleased = new Map<OutboxEntry, () => void>();
  let delivering = 0;
  let refused = 0;
  let isClosed = false;
  if (!outbox.owner) run(restore);
  return {
    accept,
    adopt,
    close,
    get waiting() {
      return waiting.length + delivering;
    },
    get dropped() {
      return overflow.total + refused;
    },
  };

  async function accept(event: RegistryEvent): Promise<void> {
    if (isClosed) return;
    const entry = outbox.keep(event);
    waiting.push(entry);
    dropOverflow();
    schedule();
    await entry.stored;
  }

  async function restore(): Promise<void> {
    try {
      const restored = await outbox.restore(limits.maxQueued + limits.maxBatch);
      // A slow store may list events that were added meanwhile.
      const here = new Set(waiting.map(({ key }) => key));
      waiting.unshift(...restored.filter(({ key }) => !here.has(key)));
      dropOverflow();
    } finally {
      schedule();
    }
  }

  async function adopt(owner: string, until: AbortSignal): Promise<void> {
    // One listener, however many batches there are.
    const isOver = untilAborted(until);
    for (;;) {
      const entries = await outbox.listOf(owner, limits.maxBatch);
      if (entries.length === 0 || until.aborted || isClosed) return;
      // Others may deliver them from then on.
      const withdraw = () => {
        waiting.splice(0, waiting.length, ...waiting.filter(entry => !entries.includes(entry)));
        for (const entry of entries) onReleased.delete(entry);
      };
      until.addEventListener('abort', withdraw, { once: true });
      const released = entries.map(entry => new Promise<void>(resolve => onReleased.set(entry, resolve)));
      waiting.push(...entries);
      dropOverflow();
      schedule();
      await Promise.race([Promise.all(released), isOver]);
      until.removeEventListener('abort', withdraw);
    }
  }

  async function release(entry: OutboxEntry): Promise<void> {
    await outbox.release(entry);
    onReleased.get(entry)?.();
    onReleased.delete(entry);
  }

  function dropOverflow(): void {
    const dropped = waiting.splice(0, Math.max(0, waiting.length - limits.maxQueued));
    for (const entry of dropped) void release(entry);
    overflow.count(dropped.length);
  }

  /** At most one batch is queued behind the current one. */
  function schedule(): void {
    if (waiting.length > 0 && queue.size === 0) run(deliverNext);
  }

  function run(task: () => Promise<void>): void {
    queue.add(task).catch(error => log.error({ err: error }, 'the queue of events failed'));
  }

  async function deliverNext(): Promise<void> {
    const batch = waiting.splice(0, limits.maxBatch);
    if (batch.length === 0) return;
    delivering = batch.length;
    try {
      await deliver(
        batch.map(({ event }) => event),
        stop.signal,
      );
      log.debug({ events: batch.length }, 'events delivered');
    } catch (error) {
      if (stop.signal.aborted) return void waiting.unshift(...batch);
      if (!(error instanceof DeliveryError)) throw error;
      refused += batch.length;
      log.error({ events: batch.length, reason: error.message }, 'events dropped: the endpoint refused them');
    } finally {
      delivering = 0;
    }
    await Promise.all(batch.map(release));
    schedule();
  }

  async function close(): Promise<void> {
    isClosed = true;
    const cut = setTimeout(() => stop.abort(), limits.drainMs);
    await queue.onIdle();
    clearTimeout(cut);
    overflow.report();
    const kept = waiting.filter(({ key }) => key !== undefined).length;
    if (waiting.length > 0) log.warn({ kept, lost: waiting.length - kept }, 'events not delivered before the stop');
  }
}

// The outbox of one endpoint: events are stored until they are delivered, so that a stop or crash loses none. Pulls are held in memory
// only: there are many, and each would cost a sync of the disk.

interface Outbox {
  /** Absent: no other process has the records. */
  readonly owner: Pick<Owner, 'id' | 'ready'> | undefined;
  /** The oldest `limit` stored events of a process, in order. Those that cannot be read are left to expire. */
  listOf(owner: string, limit: number): Promise<readonly OutboxEntry[]>;
  /** `stored` resolves when the event is on disk, and never rejects: errors are logged. */
  keep(event: RegistryEvent): OutboxEntry;
  /** Forgets an event that was delivered or dropped. Never rejects: errors are logged, and the event is sent again after a restart. */
  release(entry: OutboxEntry): Promise<void>;
  /** The oldest `limit` stored events, in order. Unreadable ones are logged and left to expire. */
  restore(limit: number): Promise<readonly OutboxEntry[]>;
}

interface OutboxEntry {
  readonly event: RegistryEvent;
  /** Absent for an event in memory only. */
  readonly key?: string;
  readonly stored?: Promise<void>;
}

/** Stored events of an endpoint that was removed from the configuration are deleted after this time. */
const KEEP_MS = 7 * 86_400_000;

const COLLECTION = 'event';

export function createOutbox({
  records,
  name,
  now,
  log,
  owner,
}: {
  readonly records: RecordStore;
  /** Where others share them. */
  readonly owner?: Outbox['owner'];
  /** The endpoint's, without a slash. */
  readonly name: string;
  readonly now: () => Date;
  readonly log: Logger;
}): Outbox {
  const events = createCollection({ store: records, name: COLLECTION, schema: eventSchema });
  const prefix = `${name}/`;
  const report = (message: string) => (error: unknown) => log.error({ err: error }, message);
  let last = 0;

  async function find(keys: readonly string[]): Promise<readonly OutboxEntry[]> {
    const found = await Promise.all(keys.map(key => events.get(key).catch(report('a stored event could not be read'))));
    return keys.flatMap((key, index) => (found[index] ? [{ event: found[index], key }] : []));
  }

  return {
    owner,
    async listOf(process, limit) {
      const found: OutboxEntry[] = [];
      for await (const key of keysOf(events, prefix)) {
        const event = ownerOf(key) === process ? await events.find(key) : undefined;
        if (event) found.push({ event, key });
        if (found.length === limit) break;
      }
      return found;
    },
    keep(event) {
      if (event.action === 'pull') return { event };
      // The time, but strictly ascending within a millisecond: keys are in the order of events.
      last = Math.max(last + 1, now().getTime() * 1000);
      const key = `${prefix}${String(last).padStart(TIME_DIGITS, '0')}${owner ? `-${owner.id}` : ''}`;
      const put = () => events.put(key, event, { expiresAt: new Date(now().getTime() + KEEP_MS) });
      const stored = owner ? owner.ready().then(put) : put();
      return { event, key, stored: stored.catch(report('an event could not be stored')) };
    },
    async release({ key, stored }) {
      await stored;
      if (key !== undefined) await events.delete(key).catch(report('a delivered event could not be removed'));
    },
    async restore(limit) {
      return find(await events.list({ prefix, limit }));
    },
  };
}

/** Of the time in the key of an event. */
const TIME_DIGITS = 16;

/** The process that stored an event; empty where it had no others beside it. */
function ownerOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1 + TIME_DIGITS + 1);
}

/** All that have stored events for the endpoint of this name. */
export async function listOwners(records: RecordStore, name: string): Promise<readonly string[]> {
  const list = (options: ListOptions) => records.list(COLLECTION, options);
  const keys = await Array.fromAsync(keysOf({ list }, `${name}/`));
  return [...new Set(keys.map(ownerOf))];
}

// Dropped events: counted, and logged at most once a minute, so that a flood of events does not flood the log.

interface Overflow {
  /** Since the start. */
  readonly total: number;
  count(events: number): void;
  /** Logs what has not been logged yet. */
  report(): void;
}

const REPORT_EVERY_MS = 60_000;

function createOverflow({ log, now }: { readonly log: Logger; readonly now: () => Date }): Overflow {
  let total = 0;
  let dropped = 0;
  let reportedAt = Number.NEGATIVE_INFINITY;
  return {
    count,
    report,
    get total() {
      return total;
    },
  };

  function count(events: number): void {
    total += events;
    dropped += events;
    if (now().getTime() - reportedAt >= REPORT_EVERY_MS) report();
  }

  function report(): void {
    if (dropped === 0) return;
    log.error({ events: dropped }, 'events dropped: too many are waiting for the endpoint');
    dropped = 0;
    reportedAt = now().getTime();
  }
}
