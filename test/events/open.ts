// Events as a test opens them: short waits without jitter, a store in memory, and a log that can be read.
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { NewEvent, RegistryEvent } from '../../src/events/event.ts';
import { createEvents, type EndpointOptions, type EventsDeps } from '../../src/events/events.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { createMemoryStore } from '../support/memory-records.ts';

export const LIMITS = { maxBatch: 50, maxQueued: 1000, drainMs: 15_000 };

type Endpoint = Partial<EndpointOptions> & Pick<EndpointOptions, 'url'>;

function endpoint(options: Endpoint): EndpointOptions {
  const all = ['push', 'pull', 'delete', 'build'] as const;
  return { name: 'lab', on: all, repositories: ['**'], timeoutMs: 10_000, retries: 3, ...options };
}

export function open(to: readonly Endpoint[], deps: Partial<EventsDeps> = {}) {
  const lines: string[] = [];
  const events = createEvents({
    endpoints: to.map(endpoint),
    records: createMemoryStore(),
    log: pino({ level: 'trace' }, { write: line => lines.push(line) }),
    backoff: { minMs: 1, maxMs: 4, hasJitter: false },
    limits: LIMITS,
    ...deps,
  });
  onTestFinished(() => events.close());
  /** The log's lines with this message. */
  const logged = (message: string) => lines.map(line => JSON.parse(line)).filter(({ msg }) => msg === message);
  return { ...events, lines, logged };
}

/** A push of a manifest with this tag. */
export function push(tag: string, repository?: string): NewEvent {
  return { ...contentEvent(tag, repository), action: 'push' };
}

export function pull(tag: string, repository?: string): NewEvent {
  return { ...contentEvent(tag, repository), action: 'pull' };
}

export function build(tag: string, repository?: string): NewEvent {
  return { ...contentEvent(tag, repository), action: 'build' };
}

function contentEvent(tag: string, repository = 'local/app') {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  return {
    target: { mediaType, digest: digestOf(Buffer.from(tag)), size: 7143, repository, tag },
    actor: { name: 'ada' },
    request: { addr: '192.0.2.7', method: 'PUT', useragent: 'docker/29.0.0' },
  };
}

export function remove(tag: string, repository = 'local/app'): NewEvent {
  return { action: 'delete', target: { repository, tag }, actor: {}, request: { method: 'DELETE' } };
}

export function tags(events: readonly RegistryEvent[]) {
  return events.map(({ target }) => ('tag' in target ? target.tag : undefined));
}

/** `1` to `count`, as tags. */
export function numbers(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${index + 1}`);
}
