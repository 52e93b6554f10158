// Checks passwords: slow for guesses, fast for recently verified ones. Wrong guesses are rate-limited.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { truncates } from 'bcryptjs';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/errors.ts';
import { type Network, networkOf } from './address.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { Bcrypt } from './bcrypt.ts';
import { hashOfNothing, highestCost, type UserFile, type UserHashes } from './user-file.ts';

interface Passwords {
  /**
   * Whether this user has this password; takes equally long for any user and for an unknown one. `address` is the client's. Throws
   * TOOMANYREQUESTS after too many wrong guesses and when overloaded, UNAVAILABLE while the users cannot be read.
   */
  check(credentials: PasswordCredentials, address: string): Promise<boolean>;
}

/** Per user name and network, and for all names from it. */
const MAX_GUESSES = { ofUser: 10, ofNetwork: 50 } as const;
const GUESS_WINDOW_MS = 60_000;
/** Since the last use. A change of the file ends it at once. */
const REMEMBER_MS = 5 * 60_000;
const MAX_REMEMBERED = 10_000;
const DEFAULT_COST = 10;

export function createPasswords({
  users,
  bcrypt,
  now,
}: {
  readonly users: UserFile;
  readonly bcrypt: Pick<Bcrypt, 'compare'>;
  readonly now: () => Date;
}): Passwords {
  /** Recently verified passwords, under a key that reveals nothing in a memory dump. */
  const right = new LRUCache<string, true>({
    // Bounded by size, not by number: for a number it allocates all its memory at once.
    maxSize: MAX_REMEMBERED,
    sizeCalculation: () => 1,
    ttl: REMEMBER_MS,
    updateAgeOnGet: true,
    ttlResolution: 0,
    perf: { now: () => now().getTime() },
  });
  const running = new Map<string, Promise<boolean>>();
  const secret = randomBytes(32);
  const guesses = {
    // Separate, so that a flood of invented names does not evict the counts of real ones.
    ofUser: createAttempts({ max: MAX_GUESSES.ofUser, windowMs: GUESS_WINDOW_MS, now }),
    ofNobody: createAttempts({ max: MAX_GUESSES.ofUser, windowMs: GUESS_WINDOW_MS, now }),
    ofNetwork: createAttempts({ max: MAX_GUESSES.ofNetwork, windowMs: GUESS_WINDOW_MS, now }),
  };
  const costOfAll = createCost();

  function begin(username: string, network: Network, isUser: boolean): readonly Guess[] {
    // A private address may be a proxy with everyone behind it.
    const ofNetwork = network.isPublic ? [guesses.ofNetwork.begin(network.name)] : [];
    try {
      return [...ofNetwork, (isUser ? guesses.ofUser : guesses.ofNobody).begin(`${network.name} ${username}`)];
    } catch (error) {
      for (const guess of ofNetwork) guess.confirm();
      throw error;
    }
  }

  /** A refusal because of overload does not count as a wrong password. */
  async function compare(begun: readonly Guess[], comparison: Promise<boolean>): Promise<boolean> {
    const confirm = () => {
      for (const guess of begun) guess.confirm();
    };
    const isRight = await comparison.catch(error => {
      confirm();
      throw error;
    });
    if (isRight) confirm();
    return isRight;
  }

  return {
    async check({ username, password }, address) {
      if (truncates(password)) {
        throw new RegistryError('UNAUTHORIZED', 'a password must have at most 72 bytes, the limit of bcrypt');
      }
      const hashes = await users.read();
      const own = hashes.get(username);
      const cost = costOfAll(hashes);
      const hash = own ?? hashOfNothing(cost);
      const key = createHmac('sha256', secret)
        .update(JSON.stringify([username, password, hash]))
        .digest('base64');
      if (right.get(key)) return true;
      const same = running.get(key);
      if (same) return same;
      const network = networkOf(address);
      const begun = begin(username, network, own !== undefined);
      const options = { cost, from: network.name, user: own === undefined ? undefined : username };
      const comparison = compare(begun, bcrypt.compare(password, hash, options)).finally(() => running.delete(key));
      running.set(key, comparison);
      const isRight = await comparison;
      if (isRight) right.set(key, true);
      return isRight;
    },
  };
}

/** The highest cost of all hashes, computed once for each state of the file. */
function createCost(): (hashes: UserHashes) => number {
  let last: { readonly hashes: UserHashes; readonly cost: number } | undefined;
  return hashes => {
    if (last?.hashes !== hashes) last = { hashes, cost: highestCost(hashes) ?? DEFAULT_COST };
    return last.cost;
  };
}

interface Attempts {
  /**
   * Counts a guess as wrong until `forgive` is called, so that concurrent guesses count too. Throws TOOMANYREQUESTS when there were too
   * many.
   */
  begin(key: string): Guess;
}

interface Guess {
  /** The guess was right. */
  readonly confirm: () => void;
}

/** More than one thread can compare in a minute at the lowest cost: counts are not evicted. */
const MAX_KEYS = 50_000;

/** Clients choose names: long ones are stored by their hash. */
const MAX_KEY_LENGTH = 64;

export function createAttempts({
  max,
  windowMs,
  now,
}: {
  readonly max: number;
  /** Since the first guess; then counting restarts. */
  readonly windowMs: number;
  readonly now: () => Date;
}): Attempts {
  const counts = new LRUCache<string, number>({
    // Bounded by size, not by number: for a number it allocates all its memory at once.
    maxSize: MAX_KEYS,
    sizeCalculation: () => 1,
    // An entry lives through its last millisecond, and Retry-After must not end within it.
    ttl: windowMs - 1,
    ttlResolution: 0,
    noUpdateTTL: true,
    perf: { now: () => now().getTime() },
  });
  const add = (key: string, change: number) => counts.set(key, (counts.get(key) ?? 0) + change);
  return {
    begin(name) {
      const key = shorten(name);
      if ((counts.get(key) ?? 0) >= max) {
        const retryAfterSeconds = Math.max(1, Math.ceil(counts.getRemainingTTL(key) / 1000));
        throw new RegistryError('TOOMANYREQUESTS', 'too many wrong passwords: try again later', {
          retryAfterSeconds,
        });
      }
      add(key, 1);
      return {
        confirm() {
          if (counts.has(key)) add(key, -1);
        },
      };
    },
  };
}

function shorten(name: string): string {
  return name.length <= MAX_KEY_LENGTH ? name : createHash('sha256').update(name).digest('base64');
}
