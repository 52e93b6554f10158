// Quotas: how much repositories may hold together. The check when linking is exact, so that concurrent pushes cannot exceed a quota; the
// check while uploads grow counts all uploads in progress, so that the disk cannot be filled either.
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { formatSize } from '../oci/wording.ts';
import { type Collection, createCollection } from '../state/collection.ts';
import { type Change, type Entry, entriesOf, keysOf, type RecordStore } from '../state/store.ts';
import { createHostedRecords } from './records.ts';
import { HOSTED_LOCK, type Quota } from './store.ts';

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
  const usage = await openUsage(records, repository => [...new Set(quotasOf(repository).map(({ name }) => name))]);

  /** Uploads in progress, at their current or announced size. */
  const growing = new Map<string, { readonly repository: string; readonly bytes: number }>();

  function growingBytes(matches: (repository: string) => boolean): number {
    return [...growing.values()].reduce((sum, { repository, bytes }) => sum + (matches(repository) ? bytes : 0), 0);
  }

  async function admit(repository: string, bytes: number): Promise<void> {
    if (bytes <= 0) return;
    for (const { name, maxBytes } of quotasOf(repository)) {
      const usedBytes = await usage.ofQuota(name);
      if (usedBytes + bytes > maxBytes) throw refusal(name, { usedBytes, askedBytes: bytes, maxBytes });
    }
  }

  return {
    async admitUpload(repository, bytes, id) {
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
    },
    endUpload: id => void growing.delete(id),
    async account(repository, _digest, bytes) {
      await admit(repository, bytes);
      return usage.adding(repository, bytes);
    },
  };
}

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

const usageSchema = z.object({ bytes: z.int().nonnegative() });

type UsageCollection = Collection<typeof usageSchema>;

interface Usage {
  /** Bytes that count for the quota of this name. */
  ofQuota(name: string): Promise<number>;
  /** Adds `bytes`, which may be negative, to a repository and its quotas. To be written before the next call. */
  adding(repository: string, bytes: number): Promise<readonly Change[]>;
}

/** Recomputes the sums for the current quotas, whatever those of an earlier start were. `findQuotas`: names of a repository's quotas. */
async function openUsage(store: RecordStore, findQuotas: (repository: string) => readonly string[]): Promise<Usage> {
  const repositories = createCollection({ store, name: 'hosted.usage', schema: usageSchema });
  const quotas = createCollection({ store, name: 'hosted.quota', schema: usageSchema });
  // Others that share the records may be linking content.
  await store.locks.withLock(HOSTED_LOCK, async ({ fence: expected }) => {
    await countOnce(store, repositories);
    const sums = await sumQuotas(entriesOf(repositories, ''), findQuotas);
    const known = new Map((await Array.fromAsync(entriesOf(quotas, ''))).map(({ key, value }) => [key, value.bytes]));
    const stale = [...known.keys()].filter(name => !sums.has(name));
    const fresh = new Map([...sums].filter(([name, bytes]) => known.get(name) !== bytes));
    // A start with the same quotas as before writes nothing, and so needs no space.
    const changes = [...stale.map(quotas.deleting), ...puttingAll(quotas, fresh)];
    if (changes.length > 0) await store.write(changes, { makesRoom: true, expected });
  });
  return {
    ofQuota: name => bytesOf(quotas, name),
    adding: (repository, bytes) =>
      Promise.all([
        adding(repositories, repository, bytes),
        ...findQuotas(repository).map(name => adding(quotas, name, bytes)),
      ]),
  };
}

/** Recounts what repositories link, whatever was recorded. */
export async function recountUsage(store: RecordStore): Promise<void> {
  const repositories = createCollection({ store, name: 'hosted.usage', schema: usageSchema });
  await store.write((await Array.fromAsync(keysOf(repositories, ''))).map(repositories.deleting));
  await countOnce(store, repositories);
}

/** Usage is recorded from the first push on; for older records it has to be computed. */
async function countOnce(store: RecordStore, repositories: UsageCollection): Promise<void> {
  if ((await repositories.list({ limit: 1 })).length > 0) return;
  const { blobs, manifests } = createHostedRecords(store);
  const sums = new Map<string, number>();
  for (const links of [blobs, manifests]) {
    for await (const { key, value } of entriesOf<{ readonly size: number }>(links, '')) {
      addTo(sums, key.slice(0, key.indexOf('@')), value.size);
    }
  }
  await store.write(puttingAll(repositories, sums), { makesRoom: true });
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

function puttingAll(collection: UsageCollection, sums: ReadonlyMap<string, number>): readonly Change[] {
  return [...sums].map(([key, bytes]) => collection.putting(key, { bytes }));
}

async function bytesOf(collection: UsageCollection, key: string): Promise<number> {
  return (await collection.find(key))?.bytes ?? 0;
}

async function adding(collection: UsageCollection, key: string, bytes: number): Promise<Change> {
  const next = (await bytesOf(collection, key)) + bytes;
  return next > 0 ? collection.putting(key, { bytes: next }) : collection.deleting(key);
}
