// What a registry asked us to leave alone, and until when: after a Retry-After all of it, with nothing left of a limit its manifests.
import { RegistryError } from '../oci/errors.ts';
import { type Clock, remainingMs } from './clock.ts';
import { parseExhausted } from './quota-headers.ts';
import { OutOfTurn } from './rate.ts';
import type { ResponseHeaders } from './response.ts';

export interface Quiet {
  /** Throws TOOMANYREQUESTS, with what is left of the Retry-After, as long as the call is not to be made. */
  require(kind: CallKind): void;
  /** Remembers what an answer says of limits. */
  heard(headers: ResponseHeaders): void;
  /** Remembers the upstream's 429 with its Retry-After; all other errors mean nothing. */
  refused(error: unknown): void;
}

/** Registries count the manifests that are got, and few count more. */
export type CallKind = 'manifest' | 'other';

interface Pause {
  readonly since: Date;
  readonly ms: number;
}

export function createQuiet(name: string, clock: Clock): Quiet {
  const pauses: Partial<Record<'all' | 'manifest', Pause>> = {};

  function check(pause: Pause | undefined, reason: string): void {
    const leftMs = pause ? remainingMs(clock, pause.since, pause.ms) : 0;
    if (leftMs === 0) return;
    const retryAfterSeconds = Math.ceil(leftMs / 1000);
    throw new RegistryError('TOOMANYREQUESTS', `${name}: not asked: ${reason}`, { retryAfterSeconds });
  }

  return {
    require(kind) {
      check(pauses.all, 'it has limited us, and said for how long');
      if (kind === 'manifest') check(pauses.manifest, 'it has said that nothing is left of its limit');
    },
    heard(headers) {
      const seconds = parseExhausted(headers);
      if (seconds !== undefined) pauses.manifest = { since: clock.now(), ms: seconds * 1000 };
    },
    refused(error) {
      if (!(error instanceof RegistryError) || error instanceof OutOfTurn) return;
      if (error.status !== 429 || !error.retryAfterSeconds) return;
      pauses.all = { since: clock.now(), ms: error.retryAfterSeconds * 1000 };
    },
  };
}
