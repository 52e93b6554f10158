// The queue of one endpoint: events go out in order, one batch after the other, and the oldest give way when too many wait.
import PQueue from 'p-queue';
import type { Logger } from 'pino';
import type { Deliver } from './delivery.ts';
import type { RegistryEvent } from './event.ts';
import type { Outbox, OutboxEntry } from './outbox.ts';
import { createOverflow } from './overflow.ts';
import { DeliveryError } from './webhook.ts';

export interface Endpoint {
  /** Never rejects. Resolves when the event is kept, where it is one to keep. Does nothing once `close` was called. */
  accept(event: RegistryEvent): Promise<void>;
  /** Resolves when all is delivered, or `drainMs` are over and what is under way is cut. */
  close(): Promise<void>;
}

export interface QueueLimits {
  /** Events in one POST. */
  readonly maxBatch: number;
  /** Events that wait, beside those under way. */
  readonly maxQueued: number;
  readonly drainMs: number;
}

interface EndpointDeps {
  readonly outbox: Outbox;
  readonly deliver: Deliver;
  readonly log: Logger;
  readonly now: () => Date;
  readonly limits: QueueLimits;
}

export function createEndpoint({ outbox, deliver, log, now, limits }: EndpointDeps): Endpoint {
  const queue = new PQueue({ concurrency: 1 });
  const stop = new AbortController();
  const overflow = createOverflow({ log, now });
  const waiting: OutboxEntry[] = [];
  let isClosed = false;
  run(restore);
  return { accept, close };

  async function accept(event: RegistryEvent): Promise<void> {
    if (isClosed) return;
    const entry = outbox.keep(event);
    waiting.push(entry);
    makeRoom();
    schedule();
    await entry.kept;
  }

  async function restore(): Promise<void> {
    try {
      const kept = await outbox.restore(limits.maxQueued + limits.maxBatch);
      // A slow store may list what came meanwhile.
      const here = new Set(waiting.map(({ key }) => key));
      waiting.unshift(...kept.filter(({ key }) => !here.has(key)));
      makeRoom();
    } finally {
      schedule();
    }
  }

  function makeRoom(): void {
    const dropped = waiting.splice(0, Math.max(0, waiting.length - limits.maxQueued));
    for (const entry of dropped) void outbox.release(entry);
    overflow.count(dropped.length);
  }

  /** At most one batch is in line behind the one under way. */
  function schedule(): void {
    if (waiting.length > 0 && queue.size === 0) run(deliverNext);
  }

  function run(task: () => Promise<void>): void {
    queue.add(task).catch(error => log.error({ err: error }, 'the queue of events failed'));
  }

  async function deliverNext(): Promise<void> {
    const batch = waiting.splice(0, limits.maxBatch);
    if (batch.length === 0) return;
    try {
      await deliver(
        batch.map(({ event }) => event),
        stop.signal,
      );
      log.debug({ events: batch.length }, 'events delivered');
    } catch (error) {
      if (stop.signal.aborted) return void waiting.unshift(...batch);
      if (!(error instanceof DeliveryError)) throw error;
      log.error({ events: batch.length, reason: error.message }, 'events dropped: the endpoint did not take them');
    }
    await Promise.all(batch.map(outbox.release));
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
