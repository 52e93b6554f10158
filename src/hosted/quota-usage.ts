// How many bytes repositories link, and what each quota has of them: records that change together with the links.
import { z } from 'zod';
import { type Collection, createCollection } from '../state/collection.ts';
import type { Change, Entry, RecordStore } from '../state/store.ts';
import { entriesOf } from './collect-walk.ts';
import { createHostedRecords, keysOf } from './records.ts';

const usageSchema = z.object({ bytes: z.int().nonnegative() });

type UsageCollection = Collection<typeof usageSchema>;

interface Usage {
  /** Bytes that count for the quota of this name. */
  ofQuota(name: string): Promise<number>;
  /** `bytes` more, or less where it is negative, for a repository and its quotas. To be written before the next call. */
  adding(repository: string, bytes: number): Promise<readonly Change[]>;
}

/** Sums the repositories up for the quotas of today, whatever those of an earlier start were. `findQuotas`: names of a repository's quotas. */
export async function openUsage(
  store: RecordStore,
  findQuotas: (repository: string) => readonly string[],
): Promise<Usage> {
  const repositories = createCollection({ store, name: 'hosted.usage', schema: usageSchema });
  const quotas = createCollection({ store, name: 'hosted.quota', schema: usageSchema });
  await countOnce(store, repositories);
  const sums = await sumQuotas(entriesOf(repositories, ''), findQuotas);
  const known = new Map((await Array.fromAsync(entriesOf(quotas, ''))).map(({ key, value }) => [key, value.bytes]));
  const stale = [...known.keys()].filter(name => !sums.has(name));
  const fresh = new Map([...sums].filter(([name, bytes]) => known.get(name) !== bytes));
  // A start with the quotas of the one before writes nothing, and so needs no room.
  const changes = [...stale.map(quotas.deleting), ...puttingAll(quotas, fresh)];
  if (changes.length > 0) await store.write(changes, { makesRoom: true });
  return {
    ofQuota: name => bytesOf(quotas, name),
    adding: (repository, bytes) =>
      Promise.all([
        adding(repositories, repository, bytes),
        ...findQuotas(repository).map(name => adding(quotas, name, bytes)),
      ]),
  };
}

/** Counts anew what repositories link, whatever was recorded of it. */
export async function recountUsage(store: RecordStore): Promise<void> {
  const repositories = createCollection({ store, name: 'hosted.usage', schema: usageSchema });
  await store.write((await Array.fromAsync(keysOf(repositories, ''))).map(repositories.deleting));
  await countOnce(store, repositories);
}

/** Usage of repositories is kept from the first push on; of records that are older, it has to be counted. */
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
