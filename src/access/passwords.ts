// Checks passwords: slow for guesses, fast for recently verified ones. Wrong guesses are rate-limited.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { truncates } from 'bcryptjs';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/errors.ts';
import { type Network, networkOf } from './address.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { Bcrypt } from './bcrypt.ts';
import { type Counting, shareCounts } from './shared-counts.ts';
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
  records,
}: {
  readonly users: UserFile;
  readonly bcrypt: Pick<Bcrypt, 'compare'>;
  readonly now: () => Date;
  /** Where several processes share them, wrong guesses at all of them count. */
  readonly records?: Counting['records'] | undefined;
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
  const window = { windowMs: GUESS_WINDOW_MS, now, records };
  const guesses = {
    // Separate, so that a flood of invented names does not evict the counts of real ones.
    ofUser: createAttempts({ name: 'guesses of a user', max: MAX_GUESSES.ofUser, ...window }),
    ofNobody: createAttempts({ name: 'guesses of nobody', max: MAX_GUESSES.ofUser, ...window }),
    ofNetwork: createAttempts({ name: 'guesses of a network', max: MAX_GUESSES.ofNetwork, ...window }),
  };
  const costOfAll = createCost();

  async function begin(username: string, network: Network, isUser: boolean): Promise<readonly Guess[]> {
    // A private address may be a proxy with everyone behind it.
    const ofNetwork = network.isPublic ? [await guesses.ofNetwork.begin(network.name)] : [];
    try {
      return [...ofNetwork, await (isUser ? guesses.ofUser : guesses.ofNobody).begin(`${network.name} ${username}`)];
    } catch (error) {
      await confirmAll(ofNetwork);
      throw error;
    }
  }

  const confirmAll = (begun: readonly Guess[]) => Promise.all(begun.map(guess => guess.confirm()));

  /** A refusal because of overload does not count as a wrong password. */
  async function compare(begun: readonly Guess[], comparison: Promise<boolean>): Promise<boolean> {
    const isRight = await comparison.catch(async error => {
      await confirmAll(begun);
      throw error;
    });
    if (isRight) await confirmAll(begun);
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
      const options = { cost, from: network.name, user: own === undefined ? undefined : username };
      const comparison = begin(username, network, own !== undefined)
        .then(begun => compare(begun, bcrypt.compare(password, hash, options)))
        .finally(() => running.delete(key));
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
   * Counts a guess as wrong until it is confirmed, so that concurrent guesses count too. Throws TOOMANYREQUESTS when there were too
   * many.
   */
  begin(key: string): Promise<Guess>;
}

interface Guess {
  /** The guess was right. Never rejects. */
  confirm(): Promise<void>;
}

/** More than one thread can compare in a minute at the lowest cost: counts are not evicted. */
const MAX_KEYS = 50_000;

/** Clients choose names: long ones are stored by their hash. */
const MAX_KEY_LENGTH = 64;

export function createAttempts({
  name,
  max,
  windowMs,
  now,
  records,
}: {
  /** Tells them apart from others over the same records. */
  readonly name: string;
  readonly max: number;
  /** Since the first guess; then counting restarts. */
  readonly windowMs: number;
  readonly now: () => Date;
  readonly records?: Counting['records'] | undefined;
}): Attempts {
  const shared = records && shareCounts({ counting: { records, now }, name, max, windowMs, isExact: true });
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

  function beginHere(key: string): Guess {
    if ((counts.get(key) ?? 0) >= max) throw tooMany(counts.getRemainingTTL(key));
    add(key, 1);
    return {
      async confirm() {
        if (counts.has(key)) add(key, -1);
      },
    };
  }

  return {
    async begin(guessed) {
      const key = shorten(guessed);
      const together = shared && (await shared.take(key, 1));
      if (!together) return beginHere(key);
      if (!together.isGranted) throw tooMany(together.msLeft);
      return { confirm: async () => void (await shared?.giveBack(key, 1)) };
    },
  };
}

function tooMany(waitMs: number): RegistryError {
  return new RegistryError('TOOMANYREQUESTS', 'too many wrong passwords: try again later', {
    retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)),
  });
}

function shorten(name: string): string {
  return name.length <= MAX_KEY_LENGTH ? name : createHash('sha256').update(name).digest('base64');
}
