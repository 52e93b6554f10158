// Several processes that share their builds at one store, each with makers of its own.
import type { Digest } from '../../../src/oci/digest.ts';
import { createSharedLocks, LEASES } from '../../../src/state/locks.ts';
import { type Expectation, type RecordStore, RecordStoreAway } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { createFixture, type Fixture, type FixtureOptions, type Work } from './fixture.ts';

export interface Replica extends Fixture {
  /** It changes nothing any more, and the time of its leases is up. */
  kill(): Promise<void>;
  /** The time of its leases is up, and it does not know. */
  overtake(): Promise<void>;
}

export function createFleet(options: FixtureOptions = {}) {
  const store = createMemoryStore();
  const images = new Map<string, Digest>();

  async function start(): Promise<Replica> {
    const leases = new Map<string, Expectation['value']>();
    let isDead = false;
    const write: RecordStore['write'] = async (changes, writing) => {
      if (isDead) throw new RecordStoreAway('killed');
      await store.write(changes, writing);
      for (const change of changes)
        if (change.kind === 'put' && change.collection === LEASES) leases.set(change.key, change.value);
    };
    const records = { ...store, write, locks: createSharedLocks({ store: { write }, pollMs: 2 }) };
    const fixture = await createFixture({ ...options, records, images });
    const overtake = async () => {
      for (const [key, value] of leases) {
        const expected = [{ collection: LEASES, key, value }];
        await store.write([{ kind: 'delete', collection: LEASES, key }], { expected }).catch(() => {});
      }
    };
    return {
      ...fixture,
      overtake,
      kill() {
        isDead = true;
        return overtake();
      },
    };
  }

  return { store, images, start, startAll: (count: number) => Promise.all(Array.from({ length: count }, start)) };
}

export const working = (replicas: readonly Fixture[]): readonly Work[] =>
  replicas.flatMap(({ works }) => works.filter(({ isOver }) => !isOver));
