// Several processes that share their builds at one store, each with makers of its own.
import type { Digest } from '../../../src/oci/digest.ts';
import { createSharedLocks, LEASES, UNFENCED } from '../../../src/state/locks.ts';
import {
  type Expectation,
  type Lock,
  type Locks,
  type RecordStore,
  RecordStoreAway,
} from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { createFixture, type Fixture, type FixtureOptions, type Work } from './fixture.ts';

export interface Replica extends Fixture {
  /** It changes nothing any more, and the time of its leases is up. */
  kill(): Promise<void>;
  /** The time of its leases is up, and it does not know. */
  overtake(): Promise<void>;
  /** How often it has asked which builds have leases. */
  looks(): number;
}

interface FleetOptions extends FixtureOptions {
  /** `workers`: a primary process grants the locks, and ends them with their holders: they cannot be lost. Default: leases in the records. */
  readonly kind?: 'replicas' | 'workers';
}

export function createFleet({ kind = 'replicas', ...options }: FleetOptions = {}) {
  const store = createMemoryStore();
  const images = new Map<string, Digest>();
  const granted = createGrantedLocks();
  let isAway = false;
  let losesAnswers = false;

  const refused = new Set<string>();

  function reach(): void {
    if (isAway) throw new RecordStoreAway('away');
  }

  async function start(): Promise<Replica> {
    const leases = new Map<string, Expectation['value']>();
    let isDead = false;
    const write: RecordStore['write'] = async (changes, writing) => {
      if (isDead) throw new RecordStoreAway('killed');
      reach();
      await store.write(changes, writing);
      for (const change of changes)
        if (change.kind === 'put' && change.collection === LEASES) leases.set(change.key, change.value);
      if (losesAnswers) throw new RecordStoreAway('the connection broke before the answer');
    };
    let looks = 0;
    const reached: RecordStore = {
      ...store,
      write,
      async get(...read) {
        if (isAway) refused.add(read.join('/'));
        reach();
        return store.get(...read);
      },
      async list(...read) {
        reach();
        if (read[0] === LEASES) looks += 1;
        return store.list(...read);
      },
      async entries(...read) {
        reach();
        return store.entries(...read);
      },
    };
    const own = granted.open();
    const locks = kind === 'workers' ? own.locks : createSharedLocks({ store: reached, pollMs: 2 });
    const fixture = await createFixture({ ...options, records: { ...reached, locks }, images });
    const overtake = async () => {
      for (const [key, value] of leases) {
        const expected = [{ collection: LEASES, key, value }];
        await store.write([{ kind: 'delete', collection: LEASES, key }], { expected }).catch(() => {});
      }
    };
    return {
      ...fixture,
      overtake,
      looks: () => looks,
      kill() {
        isDead = true;
        own.end();
        return overtake();
      },
    };
  }

  return {
    store,
    images,
    start,
    startAll: (count: number) => Promise.all(Array.from({ length: count }, start)),
    /** Whether the records are away, for all. */
    setAway(value: boolean): void {
      isAway = value;
    },
    /** Whether what is written is there, and those who write it are not told. */
    setLosesAnswers(value: boolean): void {
      losesAnswers = value;
    },
    /** The records that somebody asked for while all were away, by collection and key. */
    refused,
  };
}

function createGrantedLocks() {
  const holders = new Map<string, symbol>();
  return {
    /** The locks of one process, until its end. */
    open(): { readonly locks: Locks; end(): void } {
      const process = Symbol('process');

      async function run<T>(key: string, work: (lock: Lock) => Promise<T>): Promise<T> {
        holders.set(key, process);
        try {
          return await work(UNFENCED);
        } finally {
          if (holders.get(key) === process) holders.delete(key);
        }
      }

      return {
        locks: {
          async withLock(key, work) {
            while (holders.has(key)) await new Promise(resolve => setImmediate(resolve));
            return run(key, work);
          },
          withFreeLock: async (key, work) => (holders.has(key) ? undefined : run(key, work)),
          isLocked: key => holders.has(key),
          listHeld: async prefix => [...holders.keys()].filter(key => key.startsWith(prefix)).sort(),
          areShared: true,
        },
        end() {
          for (const [key, holder] of holders) if (holder === process) holders.delete(key);
        },
      };
    },
  };
}

export const working = (replicas: readonly Fixture[]): readonly Work[] =>
  replicas.flatMap(({ works }) => works.filter(({ isOver }) => !isOver));
