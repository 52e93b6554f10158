// Which process delivers which stored events, where several share the records: each delivers those that it stored, and holds a lock for as long as
// it lives. Under the lock of a process that is gone, another one delivers what that has left.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isTransient, type Locks } from '../state/store.ts';

export interface Owner {
  /** Part of the keys of its events. */
  readonly id: string;
  /** To be awaited before an event is stored: others know then that its process lives. Rejects where they cannot know. */
  ready(): Promise<void>;
  /** Gives up what is not delivered: others take it over. */
  close(): Promise<void>;
}

interface OwnerDeps {
  readonly locks: Locks;
  /** Of all stored events. */
  readonly listOwners: () => Promise<ReadonlySet<string>>;
  /** Delivers the events of a process that is gone; resolves when that is done, or on `until`. */
  readonly adopt: (owner: string, until: AbortSignal) => Promise<void>;
  readonly onFailure: (error: unknown) => void;
  /** The interval between looks for those that are gone. */
  readonly everyMs: number;
}

const LOCKS = 'events/';

export function createOwner({ locks, listOwners, adopt, onFailure, everyMs }: OwnerDeps): Owner {
  const id = randomUUID();
  const closing = new AbortController();
  const adopting = new Map<string, Promise<void>>();
  let known = createKnown();

  async function live(): Promise<void> {
    await repeat(async () => {
      try {
        await locks.withLock(LOCKS + id, async ({ lost }) => {
          known.resolve();
          await untilAborted(AbortSignal.any([lost, closing.signal]));
        });
      } catch (error) {
        known.reject(error);
        throw error;
      } finally {
        known = createKnown();
      }
    });
  }

  async function look(): Promise<void> {
    const held = new Set(await locks.listHeld(LOCKS));
    for (const owner of await listOwners()) {
      if (owner === id || held.has(LOCKS + owner) || adopting.has(owner)) continue;
      adopting.set(owner, adoptOne(owner));
    }
  }

  /** Never rejects. */
  async function adoptOne(owner: string): Promise<void> {
    try {
      await locks.withFreeLock(LOCKS + owner, ({ lost }) => adopt(owner, AbortSignal.any([lost, closing.signal])));
    } catch (error) {
      if (!isTransient(error)) onFailure(error);
    } finally {
      adopting.delete(owner);
    }
  }

  /** Until this is closed; failures are for the next time. */
  async function repeat(work: () => Promise<void>): Promise<void> {
    while (!closing.signal.aborted) {
      await work().catch(error => void (isTransient(error) || onFailure(error)));
      await sleep(everyMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    }
  }

  const living = [live(), repeat(look)];
  return {
    id,
    ready: () => known.promise,
    async close() {
      closing.abort();
      await Promise.all([...living, ...adopting.values()]);
    },
  };
}

function createKnown() {
  const known = Promise.withResolvers<void>();
  known.promise.catch(() => {});
  return known;
}

export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }));
}
