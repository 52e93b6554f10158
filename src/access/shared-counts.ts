// Counts that several processes share: how many units each account has used in a window of time, in records that are changed by compare-and-set.
// A busy account takes units in batches, so that most requests need no round trip. A batch counts as used until it is handed out or given back,
// so that all processes together never exceed the limit.
import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import pLimit, { type LimitFunction } from 'p-limit';
import { z } from 'zod';
import { createCollection } from '../state/collection.ts';
import {
  COUNTS,
  isTransient,
  RecordConflict,
  type RecordStore,
  RecordStoreBusy,
  RecordStoreFailed,
} from '../state/store.ts';

/** Results are undefined while the records are away: then the caller counts by itself. */
export interface SharedCounts {
  /** Counts the units, or none of them where they would exceed the limit. */
  take(key: string, units: number): Promise<Count | undefined>;
  /** For units that were taken and not used. */
  giveBack(key: string, units: number): Promise<Count | undefined>;
  /** What is left, as far as this process knows. It asks again at most once a second, and only for an account that has nothing left. */
  look(key: string): Promise<Count | undefined>;
}

interface Count {
  /** Of `take`: whether the units were counted. Of others: whether any unit is left. */
  readonly isGranted: boolean;
  /** By all processes, as of the last time that this one asked. */
  readonly used: number;
  readonly msLeft: number;
}

export interface Counting {
  readonly records: RecordStore;
  readonly now: () => Date;
}

interface CountOptions {
  readonly counting: Counting;
  /** Tells the counts apart from others over the same records. */
  readonly name: string;
  readonly max: number;
  /** From the first unit on; then counting restarts. */
  readonly windowMs: number;
  /** Whether processes may take some units in advance. Default: they may. */
  readonly isExact?: boolean;
}

interface Account {
  readonly key: string;
  /** One round trip after the other. */
  readonly turn: LimitFunction;
  window: Window;
  /** What its record was when this process read or wrote it last, and when that was, by the monotonic clock. */
  seen: Seen | undefined;
  seenAt: number;
  /** Units that count as used, and may be handed out here. */
  held: number;
  batch: number;
  refills: number;
}

type Window = z.infer<typeof windowSchema>;
type Seen = Awaited<ReturnType<ReturnType<typeof createCollection<typeof windowSchema>>['expecting']>>;

/** `endsAt`: in milliseconds, by the clock of the process that counted the first unit. */
const windowSchema = z.object({ used: z.int().nonnegative(), endsAt: z.int() });
const NOTHING: Window = { used: 0, endsAt: 0 };

/** The least recently used are dropped, and read from their records again. */
const MAX_ACCOUNTS = 10_000;
/** A batch is at most this part of what is left, so that batches, which other processes lack, get smaller towards the end. */
const SHARES = 16;
/** What is not handed out by then is given back; a refusal is repeated for this long without asking again. */
const HOLD_MS = 1_000;
/** An account that was refilled more recently than this gets a larger batch. */
const BUSY_MS = 1_000;
const PATIENCE_MS = 2_000;
const AWAY_MS = 1_000;
/** An attempt fails where another process has changed the record in between. */
const MAX_ATTEMPTS = 50;

/** Undefined where no other process has the records. */
export function shareCounts(options: CountOptions): SharedCounts | undefined {
  return options.counting.records.locks.areShared ? createSharedCounts(options) : undefined;
}

function createSharedCounts({ counting, name, max, windowMs, isExact = false }: CountOptions): SharedCounts {
  const { records, now } = counting;
  const collection = createCollection({ store: records, name: COUNTS, schema: windowSchema });
  // Bounded by size, not by number: for a number it allocates all its memory at once.
  const accounts = new LRUCache<string, Account>({ maxSize: MAX_ACCOUNTS, sizeCalculation: () => 1 });
  let awayUntil = 0;

  function accountOf(ofCaller: string): Account {
    const key = `${name} ${ofCaller}`;
    const known = accounts.get(key);
    if (known) return known;
    const nothing = { window: NOTHING, seen: undefined, seenAt: -HOLD_MS, held: 0, batch: 0, refills: 0 };
    const created: Account = { key, turn: pLimit(1), ...nothing };
    accounts.set(key, created);
    return created;
  }

  const isOpen = ({ endsAt }: Window) => endsAt > now().getTime();

  function describe({ window, held }: Account, isGranted: boolean): Count {
    if (!isOpen(window)) return { isGranted, used: 0, msLeft: windowMs };
    return { isGranted, used: window.used - held, msLeft: window.endsAt - now().getTime() };
  }

  /** Without a round trip; undefined where one is needed. */
  function takeHere(account: Account, units: number): Count | undefined {
    const { window, held, seenAt, turn } = account;
    if (!isOpen(window)) return undefined;
    if (held >= units) {
      account.held -= units;
      return describe(account, true);
    }
    // While a round trip is under way, what this process held may come back.
    const isCurrent = turn.activeCount === 0 && performance.now() - seenAt < HOLD_MS;
    return isCurrent && window.used - held + units > max ? describe(account, false) : undefined;
  }

  async function takeThere(account: Account, units: number): Promise<Count> {
    const isBusy = !isExact && performance.now() - account.seenAt < BUSY_MS;
    const wanted = isBusy ? 2 * account.batch + 1 : 0;
    let batch = 0;
    const isGranted = await change(account, ({ used, endsAt }) => {
      batch = Math.max(0, Math.min(wanted, Math.floor((max - used - units) / SHARES)));
      return used + units > max ? undefined : { used: used + units + batch, endsAt };
    });
    if (isGranted) {
      Object.assign(account, { held: batch, batch, refills: account.refills + 1 });
      if (batch > 0) void returnLater(account, account.refills);
    }
    return describe(account, isGranted);
  }

  /**
   * Writes what `next` makes of the window, in which nothing is held any more, unless that is undefined: then what was held still is. Returns
   * whether it wrote.
   */
  async function change(account: Account, next: (window: Window) => Window | undefined): Promise<boolean> {
    const { endsAt } = account.window;
    const held = account.held;
    // Nobody else may hand it out meanwhile.
    account.held = 0;
    try {
      for (let attempt = 1; ; attempt += 1) {
        const isKnown = account.seen !== undefined;
        const seen = account.seen ?? (await collection.expecting(account.key));
        account.seen = undefined;
        const window = windowOf(seen);
        const isSame = window.endsAt === endsAt;
        const changed = next(isSame ? { ...window, used: Math.max(0, window.used - held) } : window);
        if (!changed && isKnown) continue;
        if (!changed) {
          Object.assign(account, { window, held: isSame ? held : 0, seenAt: performance.now() });
          return false;
        }
        if (await write(account, seen, changed)) return true;
        if (attempt === MAX_ATTEMPTS) throw new RecordStoreBusy('other processes count the same account');
        await sleep(Math.random() * Math.min(attempt, 10));
      }
    } catch (error) {
      account.held = held;
      throw error;
    }
  }

  function windowOf({ record }: Seen): Window {
    return record && isOpen(record) ? record : { used: 0, endsAt: now().getTime() + windowMs };
  }

  /** Returns false where another process has changed the record in between. */
  async function write(account: Account, { expected }: Seen, window: Window): Promise<boolean> {
    const value = Buffer.from(JSON.stringify(window));
    const put = {
      kind: 'put',
      collection: COUNTS,
      key: account.key,
      value,
      expiresAt: new Date(window.endsAt),
    } as const;
    try {
      await records.write([put], { expected: [expected], isVolatile: true });
    } catch (error) {
      if (error instanceof RecordConflict) return false;
      throw error;
    }
    const seen = { record: window, expected: { ...expected, value } };
    Object.assign(account, { window, seen, seenAt: performance.now() });
    return true;
  }

  /** Never rejects: what cannot be given back counts as used until the window ends. */
  async function returnLater(account: Account, refills: number): Promise<void> {
    await sleep(HOLD_MS, undefined, { ref: false });
    const giveBack = async () => {
      if (account.held > 0 && account.refills === refills) await giveBackThere(account, 0);
    };
    await account.turn(giveBack).catch(() => {});
  }

  async function giveBackThere(account: Account, units: number): Promise<Count> {
    await change(account, ({ used, endsAt }) => ({ used: Math.max(0, used - units), endsAt }));
    return describe(account, true);
  }

  /** Undefined if the records are away. */
  async function reach(account: Account, work: () => Promise<Count>): Promise<Count | undefined> {
    if (performance.now() < awayUntil || records.version() === undefined) return undefined;
    const timeUp = new AbortController();
    const late = sleep(PATIENCE_MS, undefined, { signal: timeUp.signal }).catch(() => undefined);
    try {
      const count = await Promise.race([account.turn(work).catch(undefinedIfAway), late]);
      if (!count) awayUntil = performance.now() + AWAY_MS;
      return count;
    } finally {
      timeUp.abort();
    }
  }

  return {
    async take(key, units) {
      const account = accountOf(key);
      const here = () => takeHere(account, units);
      return here() ?? reach(account, async () => here() ?? takeThere(account, units));
    },
    async giveBack(key, units) {
      const account = accountOf(key);
      return reach(account, () => giveBackThere(account, units));
    },
    async look(key) {
      const account = accountOf(key);
      const isUsedUp = () => isOpen(account.window) && account.window.used - account.held >= max;
      if (isUsedUp() && performance.now() - account.seenAt >= HOLD_MS) {
        account.seen = undefined;
        await reach(account, async () => describe(account, await change(account, () => undefined)));
      }
      return describe(account, !isUsedUp());
    },
  };
}

function undefinedIfAway(error: unknown): undefined {
  if (!isTransient(error) && !(error instanceof RecordStoreFailed)) throw error;
}
