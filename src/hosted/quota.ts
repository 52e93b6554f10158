// Quotas: how much repositories may hold together. The check when linking is exact, as the link expects the sum that was checked; the
// check while uploads grow counts all uploads in progress, so that the disk cannot be filled either.
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { formatSize } from '../oci/wording.ts';
import { type Collection, createCollection } from '../state/collection.ts';
import { createProcessLocks } from '../state/locks.ts';
import {
  type Change,
  type Entry,
  type Expectation,
  entriesOf,
  keysOf,
  RecordConflict,
  type RecordStore,
  repeatOnConflict,
} from '../state/store.ts';
import { createHostedRecords } from './records.ts';
import type { Quota } from './store.ts';

/**
 * The sum of everything the repositories link, blobs and manifests. Content counts once per repository: linked by two, it counts twice,
 * since deleting it from one alone frees its bytes there.
 */
export interface QuotaLimit {
  /** Globs of repositories. */
  readonly repositories: readonly string[];
  readonly maxBytes: number;
}

/** To be opened over the same records at each start, with limits or without: otherwise changes go uncounted. */
export async function createQuota({
  records,
  limits,
}: {
  readonly records: RecordStore;
  readonly limits: readonly QuotaLimit[];
}): Promise<Quota> {
  const quotas = limits.map(({ repositories, maxBytes }) => ({
    name: repositories.join(', '),
    maxBytes,
    matches: createNameTest(repositories),
  }));
  const quotasOf = (repository: string) => quotas.filter(({ matches }) => matches(repository));
  const usage = await openUsage(records, {
    names: quotas.map(({ name }) => name),
    find: repository => [...new Set(quotasOf(repository).map(({ name }) => name))],
  });
  const turns = createProcessLocks();

  const { uploads } = createHostedRecords(records);

  /** Uploads in progress, at their current or announced size: those that this process has received bytes of. */
  const growing = new Map<string, { readonly repository: string; readonly bytes: number }>();
  let pruneAt = MANY_UPLOADS;

  function growingBytes(matches: (repository: string) => boolean): number {
    return [...growing.values()].reduce((sum, { repository, bytes }) => sum + (matches(repository) ? bytes : 0), 0);
  }

  /** Other processes may have ended some. */
  async function forgetEnded(): Promise<void> {
    if (!records.locks.areShared) return;
    for (const id of [...growing.keys()]) if (!(await uploads.has(id))) growing.delete(id);
    pruneAt = Math.max(MANY_UPLOADS, 2 * growing.size);
  }

  async function admitGrowth(repository: string, bytes: number, id: string): Promise<void> {
    const limits = quotasOf(repository);
    const before = growing.get(id)?.bytes ?? 0;
    if (bytes <= before || limits.length === 0) return;
    const linked = await Promise.all(limits.map(({ name }) => usage.ofQuota(name)));
    // No other upload interleaves from here on: of many uploads, those that fit are admitted.
    for (const [at, { name, maxBytes, matches }] of limits.entries()) {
      const usedBytes = (linked[at] ?? 0) + growingBytes(matches) - before;
      if (usedBytes + bytes > maxBytes) throw refusal(name, { usedBytes, askedBytes: bytes, maxBytes });
    }
    growing.set(id, { repository, bytes });
  }

  function admit(repository: string, bytes: number, used: ReadonlyMap<string, number>): void {
    if (bytes <= 0) return;
    for (const { name, maxBytes } of quotasOf(repository)) {
      const usedBytes = used.get(name) ?? 0;
      if (usedBytes + bytes > maxBytes) throw refusal(name, { usedBytes, askedBytes: bytes, maxBytes });
    }
  }

  return {
    async admitUpload(repository, bytes, id) {
      if (growing.size >= pruneAt) await forgetEnded();
      try {
        await admitGrowth(repository, bytes, id);
      } catch (error) {
        if (!records.locks.areShared || !(error instanceof RegistryError)) throw error;
        await forgetEnded();
        await admitGrowth(repository, bytes, id);
      }
    },
    endUpload: id => void growing.delete(id),
    account(repository, bytes, write) {
      const names = quotasOf(repository).map(({ name }) => name);
      // Of this process one after the other: only others can come between.
      return turns.withLock(names.join(' ') || repository, () =>
        repeatOnConflict(isUsage, async () => {
          const { used, ...accounts } = await usage.adding(repository, bytes);
          admit(repository, bytes, used);
          await write(accounts);
        }),
      );
    },
  };
}

/** Where other processes end uploads, too, those that they have ended are forgotten at this number. */
const MANY_UPLOADS = 1_000;

interface Refused {
  readonly usedBytes: number;
  readonly askedBytes: number;
  readonly maxBytes: number;
}

function refusal(quota: string, refused: Refused): RegistryError {
  const [used, asked, max] = [refused.usedBytes, refused.askedBytes, refused.maxBytes].map(formatSize);
  const reason = `${used} of ${max} are used, and this needs ${asked} more`;
  return new RegistryError(
    'DENIED',
    `the quota of ${quota} is too small: ${reason}. Delete what is no longer needed, or have the quota raised`,
    { detail: { quota, ...refused } },
  );
}

const USAGE = 'hosted.usage';
const QUOTA = 'hosted.quota';

function isUsage({ collection }: { readonly collection: string }): boolean {
  return collection === USAGE || collection === QUOTA;
}

const usageSchema = z.object({ bytes: z.int().nonnegative() });

type UsageCollection = Collection<typeof usageSchema>;

interface Usage {
  /** Bytes that count for the quota of this name. */
  ofQuota(name: string): Promise<number>;
  /** Adds `bytes`, which may be negative, to a repository and its quotas; `used`: what its quotas had before, by name. */
  adding(repository: string, bytes: number): Promise<Adding>;
}

interface Adding {
  readonly changes: readonly Change[];
  readonly expected: readonly Expectation[];
  readonly used: ReadonlyMap<string, number>;
}

interface QuotaNames {
  readonly names: readonly string[];
  /** Of a repository. */
  readonly find: (repository: string) => readonly string[];
}

/** Recomputes the sums for the current quotas, whatever those of an earlier start were. */
async function openUsage(store: RecordStore, { names, find }: QuotaNames): Promise<Usage> {
  const repositories = createCollection({ store, name: USAGE, schema: usageSchema });
  const quotas = createCollection({ store, name: QUOTA, schema: usageSchema });

  /** Others that share the records may be linking content: then a sum is not what it was before all was added up. */
  async function sumUp(): Promise<void> {
    const all = new Set([...names, ...(await Array.fromAsync(keysOf(quotas, '')))]);
    const before = await Promise.all([...all].map(async name => ({ name, ...(await quotas.expecting(name)) })));
    const sums = await sumQuotas(entriesOf(repositories, ''), find);
    // A start with the same quotas as before writes nothing, and so needs no space.
    const outdated = before.filter(({ name, record }) => record?.bytes !== sums.get(name));
    if (outdated.length === 0) return;
    const changes = outdated.map(({ name }) => settingTo(quotas, name, sums.get(name) ?? 0));
    await store.write(changes, { makesRoom: true, expected: outdated.map(({ expected }) => expected) });
  }

  await store.locks.withLock(OPENING_LOCK, async () => {
    await countOnce(store, repositories);
    await repeatOnConflict(isUsage, sumUp);
  });
  return {
    ofQuota: async name => (await quotas.find(name))?.bytes ?? 0,
    async adding(repository, bytes) {
      const ofQuotas = await Promise.all(
        find(repository).map(async name => ({ name, ...(await quotas.expecting(name)) })),
      );
      const own = await repositories.expecting(repository);
      const sum = (record: typeof own.record) => (record?.bytes ?? 0) + bytes;
      return {
        changes: [
          settingTo(repositories, repository, sum(own.record)),
          ...ofQuotas.map(({ name, record }) => settingTo(quotas, name, sum(record))),
        ],
        expected: [own, ...ofQuotas].map(({ expected }) => expected),
        used: new Map(ofQuotas.map(({ name, record }) => [name, record?.bytes ?? 0])),
      };
    },
  };
}

/** Of a start: one process at a time counts. */
const OPENING_LOCK = 'hosted-usage';

/** Recounts what repositories link, whatever was recorded. */
export async function recountUsage(store: RecordStore): Promise<void> {
  const repositories = createCollection({ store, name: USAGE, schema: usageSchema });
  await store.write((await Array.fromAsync(keysOf(repositories, ''))).map(repositories.deleting));
  await countOnce(store, repositories);
}

/** Usage is recorded from the first push on; for older records it has to be computed. */
async function countOnce(store: RecordStore, repositories: UsageCollection): Promise<void> {
  if ((await repositories.list({ limit: 1 })).length > 0) return;
  const { blobs, manifests } = createHostedRecords(store);
  const sums = new Map<string, number>();
  for (const links of [blobs, manifests]) {
    for await (const { key, value } of entriesOf<Entry<{ readonly size: number }>>(links, '')) {
      addTo(sums, key.slice(0, key.indexOf('@')), value.size);
    }
  }
  // A service that hosts nothing need not start the thread that writes.
  if (sums.size === 0) return;
  const changes = [...sums].map(([key, bytes]) => repositories.putting(key, { bytes }));
  const expected = [...sums.keys()].map(key => ({ collection: USAGE, key, value: undefined }));
  try {
    await store.write(changes, { makesRoom: true, expected });
  } catch (error) {
    // Another process has linked the very first content meanwhile, and counted it.
    if (!(error instanceof RecordConflict)) throw error;
  }
}

async function sumQuotas(
  usage: AsyncIterable<Entry<z.output<typeof usageSchema>>>,
  findQuotas: (repository: string) => readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const sums = new Map<string, number>();
  for await (const { key, value } of usage) for (const name of findQuotas(key)) addTo(sums, name, value.bytes);
  return sums;
}

function addTo(sums: Map<string, number>, key: string, bytes: number): void {
  sums.set(key, (sums.get(key) ?? 0) + bytes);
}

function settingTo(collection: UsageCollection, key: string, bytes: number): Change {
  return bytes > 0 ? collection.putting(key, { bytes }) : collection.deleting(key);
}
