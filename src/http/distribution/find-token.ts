// Tokens as clients name them. One that is unknown is a guess: guesses are counted by the network that they come from.
import type { Context } from 'hono';
import { LRUCache } from 'lru-cache';
import { networkOf } from '../../access/address.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { TokenLedger } from '../../pull/tokens/ledger.ts';
import { isLongTokenId, type TokenRecord } from '../../pull/tokens/record.ts';
import { clientAddress } from '../middleware/authentication.ts';

/** Undefined for what is no token. Throws TOOMANYREQUESTS for that, too, where a network has guessed too often. */
export type FindToken = (c: Context, id: string) => Promise<TokenRecord | undefined>;

/** Of one network. Clients ask a few times for a token that has ended. */
const MAX_GUESSES = 60;
const GUESS_WINDOW_MS = 60_000;
const MAX_NETWORKS = 10_000;

export function createFindToken({
  ledger,
  now,
}: {
  readonly ledger: Pick<TokenLedger, 'find'>;
  readonly now: () => Date;
}): FindToken {
  const guesses = new LRUCache<string, number>({
    // By size, not by number: for a number it takes its memory at once.
    maxSize: MAX_NETWORKS,
    sizeCalculation: () => 1,
    // An entry lives through its last millisecond, and Retry-After must not end within it.
    ttl: GUESS_WINDOW_MS - 1,
    ttlResolution: 0,
    noUpdateTTL: true,
    perf: { now: () => now().getTime() },
  });

  return async (c, id) => {
    const network = networkOf(clientAddress(c) ?? '').name;
    const isOver = (guesses.get(network) ?? 0) >= MAX_GUESSES;
    // A long one that is right was not guessed: others in the network of a guesser go on pulling.
    const record = isOver && !isLongTokenId(id) ? undefined : await ledger.find(id);
    if (record) return record;
    if (isOver) throw tooMany(guesses.getRemainingTTL(network));
    guesses.set(network, (guesses.get(network) ?? 0) + 1);
    return undefined;
  };
}

function tooMany(waitMs: number): RegistryError {
  const reason = `more than ${MAX_GUESSES} unknown tokens were requested from this network in ${GUESS_WINDOW_MS / 1000} seconds`;
  return new RegistryError('TOOMANYREQUESTS', `${reason}: try again later`, {
    retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)),
  });
}
