// Checking passwords: slow for who guesses, fast for who has just shown the right one.
import { createHmac, randomBytes } from 'node:crypto';
import { truncates } from 'bcryptjs';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/errors.ts';
import { createAttempts, type Guess } from './attempts.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { Bcrypt } from './bcrypt.ts';
import { highestCost } from './htpasswd.ts';
import type { UserFile } from './user-file.ts';

export interface Passwords {
  /**
   * Whether this user has this password; takes equally long for a user that is not there. `address` is where the guess comes from.
   * Throws TOOMANYREQUESTS after too many wrong guesses, UNAVAILABLE while the users cannot be read.
   */
  check(credentials: PasswordCredentials, address: string): Promise<boolean>;
}

export interface PasswordsDeps {
  readonly users: UserFile;
  readonly bcrypt: Pick<Bcrypt, 'compare'>;
  readonly now: () => Date;
}

/** Of one user name from one network, and of all names from it. */
const MAX_GUESSES = { ofUser: 10, ofNetwork: 50 } as const;
const GUESS_WINDOW_MS = 60_000;
/** Since the last use. A change of the file ends it at once. */
const REMEMBER_MS = 5 * 60_000;
const MAX_REMEMBERED = 1000;
const DEFAULT_COST = 10;

export function createPasswords({ users, bcrypt, now }: PasswordsDeps): Passwords {
  /** What was right a moment ago, under a key that tells nothing to who reads memory later. */
  const right = new LRUCache<string, true>({
    max: MAX_REMEMBERED,
    ttl: REMEMBER_MS,
    updateAgeOnGet: true,
    ttlResolution: 0,
    perf: { now: () => now().getTime() },
  });
  const running = new Map<string, Promise<boolean>>();
  const secret = randomBytes(32);
  const guessesOfUser = createAttempts({ max: MAX_GUESSES.ofUser, windowMs: GUESS_WINDOW_MS, now });
  const guessesOfNetwork = createAttempts({ max: MAX_GUESSES.ofNetwork, windowMs: GUESS_WINDOW_MS, now });

  function begin(username: string, address: string): readonly Guess[] {
    const { name, isPublic } = networkOf(address);
    const ofUser = guessesOfUser.begin(`${name} ${username}`);
    // Behind a private address there may be a proxy, and behind it everybody.
    return isPublic ? [ofUser, guessesOfNetwork.begin(name)] : [ofUser];
  }

  async function compare(password: string, hash: string, guesses: readonly Guess[]) {
    const isRight = await bcrypt.compare(password, hash);
    if (isRight) for (const guess of guesses) guess.forgive();
    return isRight;
  }

  return {
    async check({ username, password }, address) {
      if (truncates(password)) {
        throw new RegistryError('UNAUTHORIZED', 'a password longer than 72 bytes cannot be told apart by bcrypt');
      }
      const hashes = await users.read();
      const hash = hashes.get(username) ?? dummyHash(highestCost(hashes) ?? DEFAULT_COST);
      const key = createHmac('sha256', secret)
        .update(JSON.stringify([username, password, hash]))
        .digest('base64');
      if (right.get(key)) return true;
      const same = running.get(key);
      if (same) return same;
      const comparison = compare(password, hash, begin(username, address)).finally(() => running.delete(key));
      running.set(key, comparison);
      const isRight = await comparison;
      if (isRight) right.set(key, true);
      return isRight;
    },
  };
}

/** The hash of no password. */
function dummyHash(cost: number): string {
  return `$2b$${String(cost).padStart(2, '0')}$${'.'.repeat(53)}`;
}

/** The address, or the first half of an IPv6 one: whoever has one has all of them. */
export function networkOf(address: string): { readonly name: string; readonly isPublic: boolean } {
  if (!ipaddr.isValid(address)) return { name: address, isPublic: false };
  const parsed = ipaddr.process(address);
  const text = parsed.toNormalizedString();
  const name = parsed.kind() === 'ipv6' ? text.split(':').slice(0, 4).join(':') : text;
  return { name, isPublic: parsed.range() === 'unicast' };
}
