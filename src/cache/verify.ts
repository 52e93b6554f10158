// Verifying: all that is kept is hashed, and what has not the digest that it is kept by goes. The next pull fetches it anew.
import { setTimeout } from 'node:timers/promises';
import type { ContentStore } from '../content/store.ts';
import type { UseTimes } from '../content/use-times.ts';
import type { Digest } from '../oci/digest.ts';
import { ContentMismatch, createVerifier } from '../oci/verify.ts';
import type { CacheLine, Tally } from './lines.ts';

export interface VerifyOptions {
  /** How fast the disk is read; absent: as fast as it can be. */
  readonly bytesPerSecond?: number | undefined;
}

export interface VerifyParts {
  readonly content: Pick<ContentStore, 'open'>;
  readonly remove: (digest: Digest) => Promise<void>;
  readonly times: Pick<UseTimes, 'read'>;
}

export async function* verify(parts: VerifyParts, { bytesPerSecond }: VerifyOptions): AsyncGenerator<CacheLine> {
  const pause = bytesPerSecond === undefined ? async () => {} : createPace(bytesPerSecond);
  let seen: Tally = { count: 0, bytes: 0 };
  let damaged: Tally = { count: 0, bytes: 0 };
  for await (const { digest, size } of parts.times.read()) {
    const isIntact = await check(parts, digest, pause);
    if (isIntact === undefined) continue;
    seen = add(seen, size);
    if (!isIntact) {
      await parts.remove(digest);
      damaged = add(damaged, size);
      yield { kind: 'damaged', digest, size };
    }
    yield { kind: 'progress', done: seen };
  }
  yield { kind: 'verified', seen, damaged };
}

/** Undefined for what has gone meanwhile. */
async function check({ content }: VerifyParts, digest: Digest, pause: Pace): Promise<boolean | undefined> {
  const body = await content.open(digest);
  if (!body) return undefined;
  const verifier = createVerifier({ digest });
  try {
    for await (const chunk of body) {
      verifier.update(chunk);
      await pause(chunk.byteLength);
    }
    verifier.finish();
    return true;
  } catch (error) {
    if (error instanceof ContentMismatch || isUnreadable(error)) return false;
    throw error;
  }
}

/** A bad sector is damage, too. */
function isUnreadable(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EIO';
}

type Pace = (bytes: number) => Promise<void>;

function createPace(bytesPerSecond: number): Pace {
  const startedAt = performance.now();
  let total = 0;
  return async bytes => {
    total += bytes;
    const aheadMs = (total / bytesPerSecond) * 1000 - (performance.now() - startedAt);
    if (aheadMs > 1) await setTimeout(aheadMs);
  };
}

function add({ count, bytes }: Tally, size: number): Tally {
  return { count: count + 1, bytes: bytes + size };
}
