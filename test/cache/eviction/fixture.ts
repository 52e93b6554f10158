// A content store with a budget, in a directory of its own.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CountedStore, createCountedStore } from '../../../src/cache/eviction/counted-store.ts';
import { type Budget, createEvict, type Evict } from '../../../src/cache/eviction/evict.ts';
import { createHousekeeping, type EvictionRun, type Housekeeping } from '../../../src/cache/eviction/housekeeping.ts';
import { createUsage, createUseTimes, type Usage } from '../../../src/cache/eviction/usage.ts';
import { createDiskStore, type DiskStore } from '../../../src/content/disk.ts';
import type { UnreadPolicy } from '../../../src/content/ingestion.ts';
import { listContent } from '../../../src/content/inventory.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';

export interface BudgetPlace {
  readonly directory: string;
  readonly store: CountedStore;
  readonly usage: Usage;
  readonly evict: Evict;
  readonly housekeeping: Housekeeping;
  readonly runs: readonly EvictionRun[];
  /** What nothing refers to any more, in order. */
  readonly unlinked: readonly Digest[];
  /** Resolves when nothing is under way. */
  settle(): Promise<void>;
  inventory(): Promise<readonly Digest[]>;
  /** Closes it, and opens it again. */
  restart(): Promise<BudgetPlace>;
  close(): Promise<void>;
}

export interface PlaceOptions {
  /** Default: a new one. Removed in the end. */
  readonly directory?: string;
  readonly budget?: Partial<Budget>;
  readonly now?: () => Date;
  readonly isPinned?: (digest: Digest) => boolean;
  /** How long content without a reader continues. */
  readonly unread?: Pick<UnreadPolicy, 'graceMs' | 'finishMs'>;
  /** Changes the store under the budget. */
  readonly wrap?: (content: DiskStore) => DiskStore;
}

export async function openPlace(options: PlaceOptions = {}): Promise<BudgetPlace> {
  return open(options.directory ?? (await mkdtemp(join(tmpdir(), 'veneer-budget-'))), options);
}

async function open(directory: string, options: PlaceOptions): Promise<BudgetPlace> {
  const { now = () => new Date(), isPinned = () => false, wrap = content => content } = options;
  const budget = { highBytes: undefined, lowBytes: 0, maxAgeMs: undefined, ...options.budget };
  let keeping: Housekeeping | undefined;
  const isWorthFinishing = (bytes: number, size: number) => bytes >= size / 2;
  const unread = { graceMs: 100, finishMs: 400, ...options.unread, isWorthFinishing };
  const content = wrap(await createDiskStore({ directory, unread, claimBudget: need => keeping?.claim(need) }));
  const usage = createUsage();
  const times = createUseTimes({ directory });
  const runs: EvictionRun[] = [];
  const unlinked: Digest[] = [];
  const failures: unknown[] = [];
  const store = createCountedStore({
    ...{ content, usage, times, now },
    onStored: () => keeping?.check(),
    onFull: bytes => keeping?.makeRoom(bytes),
  });
  const evict = createEvict({
    ...{ content, usage, isArriving: store.isArriving, isPinned: async digest => isPinned(digest) },
    unlink: async digests => void unlinked.push(...digests),
  });
  const onEvicted = (run: EvictionRun) => runs.push(run);
  const housekeeping = createHousekeeping({
    ...{ usage, times, evict, budget, now, onEvicted },
    onFailed: error => failures.push(error),
  });
  keeping = housekeeping;
  await housekeeping.counted;

  async function stop(): Promise<void> {
    await housekeeping.close();
    await store.close();
    if (failures.length > 0) throw failures[0];
  }

  return {
    ...{ directory, store, usage, evict, housekeeping, runs, unlinked },
    settle: () => housekeeping.sweep(),
    async inventory() {
      return (await Array.fromAsync(listContent(directory))).sort();
    },
    async restart() {
      await stop();
      return open(directory, options);
    },
    async close() {
      await stop();
      await rm(directory, { recursive: true });
    },
  };
}

/** Content of a size, different for each number. */
export function contentOf(number: number, size = 100): { readonly bytes: Buffer; readonly digest: Digest } {
  const bytes = Buffer.alloc(size, `${number} `);
  return { bytes, digest: digestOf(bytes) };
}
