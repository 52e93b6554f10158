// Reports registry events to webhooks: each endpoint gets the events it is configured for, and none delays another or the registry.
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Agent, type Dispatcher } from 'undici';
import { createNameTest } from '../oci/name-pattern.ts';
import type { RecordStore } from '../state/store.ts';
import { createEndpoint, createOutbox, type Endpoint, listOwners, type QueueLimits } from './endpoint.ts';
import { createEvent, type EventAction, type NewEvent } from './event.ts';
import { createOwner, type Owner } from './owners.ts';
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
  /** The interval between looks for events of processes that are gone. */
  readonly adoptEveryMs?: number;
}

const BACKOFF: Backoff = { minMs: 1000, maxMs: 60_000, hasJitter: true };
const ADOPT_EVERY_MS = 5_000;
const LIMITS: QueueLimits = { maxBatch: 50, maxQueued: 10_000, drainMs: 5000 };

export function createEvents({ now = () => new Date(), ...deps }: EventsDeps): Events {
  const dispatcher = new Agent({ allowH2: false });
  const { records, endpoints, log, adoptEveryMs: everyMs = ADOPT_EVERY_MS } = deps;
  const isShared = records.locks.areShared && endpoints.length > 0;
  const owner = isShared
    ? createOwner({ locks: records.locks, listOwners: listAll, adopt, onFailure, everyMs })
    : undefined;
  const routes = deps.endpoints.map(options => ({
    name: options.name,
    accepts: createFilter(options),
    endpoint: openEndpoint(options, { ...deps, now, dispatcher, owner }),
  }));

  async function listAll(): Promise<ReadonlySet<string>> {
    return new Set((await Promise.all(endpoints.map(({ name }) => listOwners(records, name)))).flat());
  }

  async function adopt(gone: string, until: AbortSignal): Promise<void> {
    await Promise.all(routes.map(({ endpoint }) => endpoint.adopt(gone, until)));
  }

  function onFailure(error: unknown): void {
    log.error({ err: error }, 'events of other processes cannot be taken over');
  }

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
      await owner?.close();
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
  deps: EventsDeps & {
    readonly now: () => Date;
    readonly dispatcher: Dispatcher;
    readonly owner: Owner | undefined;
  },
): Endpoint {
  const { records, now, dispatcher, owner, backoff = BACKOFF, limits = LIMITS, wait = waitFor } = deps;
  const log = deps.log.child({ endpoint: name });
  const webhook = createWebhook(options, { dispatcher, now });
  const deliver = createDelivery({ webhook, retries, backoff, wait, log });
  const outbox = createOutbox({ records, name, now, log, owner });
  return createEndpoint({ outbox, deliver, log, now, limits });
}

async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal });
}
