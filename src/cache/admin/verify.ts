// Verifying: all that is kept is hashed, that of upstreams and all else, and what has not the digest that it is kept by is set aside.
import { type ContentKind, type KeptContent, listContent } from '../../content/inventory.ts';
import { createPace } from '../../content/pace.ts';
import type { CacheLine, Tally } from './lines.ts';

export interface VerifyOptions {
  /** How fast the disk is read; absent: as fast as it can be. */
  readonly bytesPerSecond?: number | undefined;
}

/** What mends damaged content. */
export const REMEDIES: Record<ContentKind, string> = {
  hosted: 'it is not there any more (404) until it is pushed again',
  cache: 'the next pull fetches it anew',
  rules: 'the rule reads its layer again in a moment',
  tokens: 'its tokens serve it again when the same request is submitted',
  contexts: 'a build that needs it has to be submitted again',
};

export async function* verify(
  kept: readonly KeptContent[],
  { bytesPerSecond }: VerifyOptions,
): AsyncGenerator<CacheLine> {
  const pace = bytesPerSecond === undefined ? undefined : createPace(bytesPerSecond);
  let seen: Tally = { count: 0, bytes: 0 };
  let damaged: Tally = { count: 0, bytes: 0 };
  for (const { of, directory, verify: verifyOne } of kept) {
    for await (const digest of listContent(directory)) {
      const verified = await verifyOne(digest, { pace });
      // Gone meanwhile.
      if (!verified) continue;
      const { size, isIntact } = verified;
      seen = add(seen, size);
      if (!isIntact) {
        damaged = add(damaged, size);
        yield { kind: 'damaged', of, digest, size, remedy: REMEDIES[of] };
      }
      yield { kind: 'progress', done: seen };
    }
  }
  yield { kind: 'verified', seen, damaged };
}

function add({ count, bytes }: Tally, size: number): Tally {
  return { count: count + 1, bytes: bytes + size };
}
