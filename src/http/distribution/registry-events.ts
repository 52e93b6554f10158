// Events for what requests do to the registry: who did it, from where, and to what.
import type { Context } from 'hono';
import { tryGetContext } from 'hono/context-storage';
import { subjectOf } from '../../access/access.ts';
import type { BuildRecord } from '../../builds/record.ts';
import type { NewEvent } from '../../events/event.ts';
import type { Events } from '../../events/events.ts';
import type { HostedChange } from '../../hosted/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { ServedManifest } from '../../pull/augmented-registry.ts';
import { type Origin, originName } from '../../pull/origin.ts';
import { clientAddress } from '../middleware/authentication.ts';
import { findPublicHost } from '../wave/public-host.ts';

export interface RegistryEvents {
  /** Called during the request that made the change, or outside of any request. */
  changed(change: HostedChange): Promise<void>;
  pulled(c: Context, pulled: PulledManifest): void;
  /** For a finished build: a failed one has no image, and is no event. */
  built(build: BuildRecord): void;
  /** For content damaged on disk: one event for each repository that has it. */
  damaged(content: DamagedContent): void;
}

interface DamagedContent {
  readonly digest: Digest;
  readonly size: number;
  readonly repositories: readonly string[];
}

interface PulledManifest {
  readonly origin: Origin;
  readonly manifest: ServedManifest;
  /** The requested tag or digest. */
  readonly reference: string;
}

/**
 * `publicUrl`: the address of this service for clients; without it, targets only have a URL for requests over loopback.
 */
export function createRegistryEvents(events: Pick<Events, 'emit'>, publicUrl?: URL): RegistryEvents {
  const urlOf = (c: Context | undefined, { repository, digest, mediaType }: Addressable) => {
    const base = publicUrl?.href ?? (c && loopbackOrigin(c));
    const kind = mediaType === 'application/octet-stream' ? 'blobs' : 'manifests';
    return base === undefined ? {} : { url: new URL(`/v2/${repository}/${kind}/${digest}`, base).href };
  };

  return {
    changed({ kind, repository, digest, tag, mediaType, size }) {
      const subject = { repository, digest, ...(tag !== undefined && { tag }) };
      const c = tryGetContext();
      const from = describeRequest(c);
      return kind === 'delete'
        ? events.emit({ action: 'delete', target: subject, ...from })
        : events.emit({
            action: 'push',
            target: { ...subject, mediaType, size, ...urlOf(c, { ...subject, mediaType }) },
            ...from,
          });
    },
    pulled(c, { origin, manifest: { digest, mediaType, raw }, reference }) {
      const subject = { repository: originName(origin), ...(!reference.includes(':') && { tag: reference }) };
      const target = {
        ...subject,
        digest,
        mediaType,
        size: raw.byteLength,
        ...urlOf(c, { ...subject, digest, mediaType }),
      };
      void events.emit({ action: 'pull', target, ...describeRequest(c) });
    },
    damaged({ digest, size, repositories }) {
      const targets = repositories.length > 0 ? repositories.map(repository => ({ repository })) : [{}];
      const from = { actor: { name: 'veneer' }, request: { method: '' } };
      for (const subject of targets) events.emit({ action: 'damaged', target: { ...subject, digest, size }, ...from });
    },
    built({ status, image, digest, caller, spec }) {
      if (status !== 'succeeded' || digest === undefined) return;
      const tag = image.slice(image.lastIndexOf(':') + 1);
      const target = { repository: spec.target.repository, tag, digest };
      void events.emit({ action: 'build', target, actor: actorOf(caller), request: { method: '' } });
    },
  };
}

type Addressable = { readonly repository: string; readonly digest: string; readonly mediaType: string };

/** Any other Host header is only a claim of the client. */
function loopbackOrigin(c: Context): string | undefined {
  const host = findPublicHost(undefined, c.req.header('Host'));
  return host && `${new URL(c.req.url).protocol}//${host}`;
}

/** Actions without a user get a name that no user can have. */
function actorOf(caller: string): NewEvent['actor'] {
  if (caller === '') return {};
  return { name: caller.startsWith(':') ? 'veneer' : caller };
}

/** Without a request the actor is Veneer itself: garbage collection or retention. */
function describeRequest(c: Context | undefined): Pick<NewEvent, 'actor' | 'request'> {
  if (!c) return { actor: { name: 'veneer' }, request: { method: '' } };
  const caller = c.get('rights')?.caller;
  const name = caller && subjectOf(caller);
  const addr = clientAddress(c);
  const useragent = c.req.header('User-Agent');
  return {
    actor: name ? { name } : {},
    request: { method: c.req.method, ...(addr && { addr }), ...(useragent && { useragent }) },
  };
}
