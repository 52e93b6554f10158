// Reports registry events to webhooks: each endpoint gets the events it is configured for, and none delays another or the registry.
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Agent, type Dispatcher } from 'undici';
import { createNameTest } from '../oci/name-pattern.ts';
import type { RecordStore } from '../state/store.ts';
import { createEndpoint, createOutbox, type Endpoint, type QueueLimits } from './endpoint.ts';
import { createEvent, type EventAction, type NewEvent } from './event.ts';
import { type Backoff, createDelivery, createWebhook, type DeliveryDeps, type WebhookOptions } from './webhook.ts';

export interface Events {
  /** Never rejects. Resolves when the event is stored: to be awaited before the client is answered. */
  emit(event: NewEvent): Promise<void>;
  /** For each endpoint, by its name: how many events are not delivered yet, and how many were dropped since the start. */
  queues(): readonly { readonly endpoint: string; readonly waiting: number; readonly dropped: number }[];
  /** Gives each endpoint a limited time to deliver its queue. Call it before the record store is closed. */
  close(): Promise<void>;
}

export interface EndpointOptions extends WebhookOptions {
  /** Names the endpoint in the log and the record store: unique, without a slash. */
  readonly name: string;
  readonly on: readonly EventAction[];
  /** Globs of repositories, of which one must match: `*` stays within a component, `**` does not. */
  readonly repositories: readonly string[];
  /** The number of retries for a batch. */
  readonly retries: number;
}

export interface EventsDeps {
  readonly endpoints: readonly EndpointOptions[];
  readonly records: RecordStore;
  readonly log: Logger;
  readonly now?: () => Date;
  readonly backoff?: Backoff;
  readonly limits?: QueueLimits;
  readonly wait?: DeliveryDeps['wait'];
}

const BACKOFF: Backoff = { minMs: 1000, maxMs: 60_000, hasJitter: true };
const LIMITS: QueueLimits = { maxBatch: 50, maxQueued: 10_000, drainMs: 5000 };

export function createEvents({ now = () => new Date(), ...deps }: EventsDeps): Events {
  const dispatcher = new Agent({ allowH2: false });
  const routes = deps.endpoints.map(options => ({
    name: options.name,
    accepts: createFilter(options),
    endpoint: openEndpoint(options, { ...deps, now, dispatcher }),
  }));
  return {
    async emit(happened) {
      const subscribed = routes.filter(({ accepts }) => accepts(happened));
      if (subscribed.length === 0) return;
      const event = createEvent(happened, now());
      await Promise.all(subscribed.map(({ endpoint }) => endpoint.accept(event)));
    },
    queues: () => routes.map(({ name, endpoint: { waiting, dropped } }) => ({ endpoint: name, waiting, dropped })),
    async close() {
      await Promise.all(routes.map(({ endpoint }) => endpoint.close()));
      await dispatcher.destroy();
    },
  };
}

function createFilter({ on, repositories }: EndpointOptions): (event: NewEvent) => boolean {
  const matches = createNameTest(repositories);
  return ({ action, target }) => on.includes(action) && matches(target.repository ?? '');
}

function openEndpoint(
  { name, retries, ...options }: EndpointOptions,
  deps: EventsDeps & { readonly now: () => Date; readonly dispatcher: Dispatcher },
): Endpoint {
  const { records, now, dispatcher, backoff = BACKOFF, limits = LIMITS, wait = waitFor } = deps;
  const log = deps.log.child({ endpoint: name });
  const webhook = createWebhook(options, { dispatcher, now });
  const deliver = createDelivery({ webhook, retries, backoff, wait, log });
  const outbox = createOutbox({ records, name, now, log });
  return createEndpoint({ outbox, deliver, log, now, limits });
}

async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal });
}
