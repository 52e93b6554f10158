// Build contexts that pods fetch: each at an address of its own, signed, for as long as its build may run. The key outlives the service, so that a pod
// which waited for its node finds its context after a restart, too.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { bytesOf } from '../../context/tar.ts';

export interface ContextOffers {
  /** The path, with its query, under which whoever knows it gets the file as long as the offer stands. */
  offer(name: string, file: string, ttlMs: number): Offer;
  /** Undefined for an address that was not signed here, is too old, or whose offer stands no more. The caller reads it to its end or returns it. */
  open(
    name: string,
    query: { readonly expires: string; readonly signature: string },
  ): AsyncIterable<Uint8Array> | undefined;
}

interface Offer {
  readonly path: string;
  end(): void;
}

/** Where http serves them. */
export const CONTEXTS_PATH = '/v1/builds/contexts/';

export function createContextOffers({ key, now }: { readonly key: string; readonly now: () => Date }): ContextOffers {
  const files = new Map<string, string>();
  const sign = (name: string, expires: string) => createHmac('sha256', key).update(`${expires} ${name}`).digest();

  return {
    offer(name, file, ttlMs) {
      files.set(name, file);
      const expires = String(now().getTime() + ttlMs);
      const query = new URLSearchParams({ expires, signature: sign(name, expires).toString('base64url') });
      return { path: `${CONTEXTS_PATH}${name}?${query}`, end: () => void files.delete(name) };
    },
    open(name, { expires, signature }) {
      const given = Buffer.from(signature, 'base64url');
      const expected = sign(name, expires);
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
      const file = Number(expires) > now().getTime() ? files.get(name) : undefined;
      return file === undefined ? undefined : bytesOf(createReadStream(file));
    },
  };
}
