// Events of the registry, in the format of distribution's notifications, for compatible consumers.
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';

/** The media type of a POST's envelope. */
export const EVENTS_MEDIA_TYPE = 'application/vnd.docker.distribution.events.v2+json';

const MAX_USER_AGENT_CHARACTERS = 512;

const digest = z.string().refine(isDigest, 'expected a digest');

const contentSchema = z.object({
  mediaType: z.string(),
  digest,
  /** In bytes. */
  size: z.int().nonnegative(),
  /** The name that clients pull. A token in a path is a credential, and not part of it. */
  repository: z.string(),
  tag: z.string().optional(),
  /** The URL of the manifest or blob; like the repository, without a token. */
  url: z.string().optional(),
});

/** Deleted content has no size: a manifest or blob by its digest, or a tag. */
const deletedSchema = contentSchema.pick({ repository: true }).extend({
  digest: digest.optional(),
  tag: z.string().optional(),
});

const originSchema = z.object({
  /** Without a name: anonymous. */
  actor: z.object({ name: z.string().optional() }),
  request: z.object({
    addr: z.string().optional(),
    method: z.string(),
    useragent: z.string().optional(),
  }),
});

/** Built images may be in another registry: identified by digest. */
const builtSchema = contentSchema.pick({ repository: true, digest: true, tag: true });

/** Without a repository if it belongs to none: it came with a token, or from a rule. */
const damagedSchema = contentSchema.pick({ digest: true, size: true }).extend({ repository: z.string().optional() });

const newEventSchema = z.discriminatedUnion('action', [
  originSchema.extend({ action: z.enum(['push', 'pull']), target: contentSchema }),
  originSchema.extend({ action: z.literal('build'), target: builtSchema }),
  originSchema.extend({ action: z.literal('delete'), target: deletedSchema }),
  originSchema.extend({ action: z.literal('damaged'), target: damagedSchema }),
]);

export const eventSchema = z.object({ id: z.uuid(), timestamp: z.iso.datetime() }).and(newEventSchema);

export type RegistryEvent = z.infer<typeof eventSchema>;
/** An event before it gets its id and time. */
export type NewEvent = z.infer<typeof newEventSchema>;
export type EventAction = NewEvent['action'];

export function createEvent(happened: NewEvent, now: Date): RegistryEvent {
  const { useragent, ...request } = happened.request;
  return {
    id: randomUUID(),
    timestamp: now.toISOString(),
    ...happened,
    request: { ...request, ...(useragent && { useragent: useragent.slice(0, MAX_USER_AGENT_CHARACTERS) }) },
  };
}

/** The body of a POST. */
export function encodeEnvelope(events: readonly RegistryEvent[]): string {
  return JSON.stringify({ events: events.map(addLength) });
}

/** Consumers older than distribution 2.1 read `length` where others read `size`. */
function addLength(event: RegistryEvent): object {
  const { target } = event;
  return 'size' in target ? { ...event, target: { ...target, length: target.size } } : event;
}
