// A process that keeps content in the directory that it is given, eight bodies at a time and within a budget, and prints what was kept,
// until it is killed.
import { randomBytes } from 'node:crypto';
import { createCountedStore } from '../../../src/cache/eviction/counted-store.ts';
import { createEvict } from '../../../src/cache/eviction/evict.ts';
import { createHousekeeping, type Housekeeping } from '../../../src/cache/eviction/housekeeping.ts';
import { createUsage, createUseTimes } from '../../../src/cache/eviction/usage.ts';
import { createDiskStore } from '../../../src/content/disk.ts';

const [, , directory = ''] = process.argv;
let keeping: Housekeeping | undefined;
const content = await createDiskStore({ directory, claimBudget: need => keeping?.claim(need) });
const usage = createUsage();
const times = createUseTimes({ directory });
const now = () => new Date();
const onStored = () => keeping?.check();
const store = createCountedStore({ content, usage, times, now, onStored, onFull() {} });
const none = async () => {};
const evict = createEvict({ content, usage, isArriving: store.isArriving, isPinned: async () => false, unlink: none });
keeping = createHousekeeping({
  ...{ usage, times, evict, now, onEvicted() {} },
  budget: { highBytes: 2_000_000, lowBytes: 1_000_000, maxAgeMs: undefined },
  onFailed(error) {
    throw error;
  },
});

async function keepForEver(): Promise<never> {
  for (;;) process.stdout.write(`${await store.put(randomBytes(100_000))}\n`);
}

await Promise.all(Array.from({ length: 8 }, keepForEver));
