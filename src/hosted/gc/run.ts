// Shared state of one garbage collection: its deadlines, its progress, and the sweeper that removes or, in a dry run, only records; and what an
// interrupted run has left to it.
import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { Inventory } from '../../content/inventory.ts';
import type { Digest } from '../../oci/digest.ts';
import { type Change, entriesOf, type keysOf, pagesOf } from '../../state/store.ts';
import {
  type ExpectedLink,
  type RecordedManifest,
  type TagLink,
  unlinkBlobs,
  unlinkManifests,
  unlinkTag,
} from '../links.ts';
import { holderKey, holdersKey, linkKey, type ManifestRecord, memberKey, tagKey } from '../records.ts';
import type { HostedStore } from '../store.ts';
import type { GcProgress } from './report.ts';
import type { Retention } from './retention.ts';

export interface GcRun {
  readonly store: HostedStore;
  readonly sweeper: Sweeper;
  readonly retention: Retention;
  readonly startedAt: Date;
  /** Content pushed, mounted or accessed after this instant is retained. ISO 8601 in UTC, as all of these. */
  readonly graceBefore: string;
  /** Untagged manifests pushed or untagged after this instant are retained; undefined: all are. */
  readonly untaggedBefore: string | undefined;
  /** To be awaited at each record and file: yields to other work, reports progress, and throws once the run is aborted. */
  visit(): Promise<void>;
  /** Called after each repository. */
  finishRepository(): void;
}

export interface VisitOptions {
  readonly onProgress?: ((progress: GcProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Record stores may answer synchronously: without a pause, no request would be served during the run. */
const VISITS_PER_TURN = 50;
const VISITS_PER_REPORT = 1_000;

export function countVisits({
  onProgress = () => {},
  signal,
}: VisitOptions): Pick<GcRun, 'visit' | 'finishRepository'> {
  const progress = { repositories: 0, visited: 0 };
  return {
    async visit() {
      signal?.throwIfAborted();
      progress.visited += 1;
      if (progress.visited % VISITS_PER_REPORT === 0) onProgress({ ...progress });
      if (progress.visited % VISITS_PER_TURN === 0) await setImmediate();
    },
    finishRepository() {
      progress.repositories += 1;
      onProgress({ ...progress });
    },
  };
}

/** Everything that removes links is to be called inside `withLock`, with its store. */
interface Sweeper {
  /** Bytes freed on disk. */
  readonly freedBytes: number;
  /** Whether a record counts as removed although it still exists. */
  isRemoved(key: string): boolean;
  /** By `linkKey`: the record after all removals so far. */
  findManifest(key: string): Promise<ManifestRecord | undefined>;
  removeTag(locked: HostedStore, link: TagLink): Promise<void>;
  /** All of them, or none. Their content stays. */
  removeManifests(locked: HostedStore, repository: string, manifests: readonly RecordedManifest[]): Promise<void>;
  /** The same; throws RecordConflict where a link is not as expected. */
  removeBlobs(locked: HostedStore, repository: string, links: readonly ExpectedLink[]): Promise<void>;
  /** Removes what is not needed of this, without the lock. Returns what is gone. */
  removeContent(contents: readonly Content[]): Promise<readonly Content[]>;
  /** Of earlier runs, by their ids: what they had unlinked has been deleted. */
  forgetRemovals(ids: readonly string[]): Promise<void>;
  /** To be called at the end of a run. */
  finish(): Promise<void>;
}

export interface Content {
  readonly digest: Digest;
  readonly size: number;
}

export function createSweeper(store: HostedStore, startedAt: Date): Sweeper {
  const { removals } = store.records;
  const id = randomUUID();
  let isRecorded = false;
  /** Unlinked by this run, and not deleted yet. */
  const unlinked = new Set<Digest>();
  let freedBytes = 0;

  async function forgetRemovals(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await store.records.write(ids.map(removals.deleting), { makesRoom: true });
  }

  /** To be written with the removal of their links. Also where that fails: it may have been made. */
  function recordRemoval(digests: readonly Digest[]): Change {
    for (const digest of digests) unlinked.add(digest);
    isRecorded = true;
    return removals.putting(id, { digests: [...unlinked], unlinkedAt: store.now().toISOString() });
  }

  return {
    get freedBytes() {
      return freedBytes;
    },
    isRemoved: () => false,
    findManifest: key => store.records.manifests.find(key),
    removeTag: (locked, link) => unlinkTag(locked, link, startedAt),
    async removeManifests(locked, repository, manifests) {
      const also = [recordRemoval(manifests.map(({ digest }) => digest))];
      await unlinkManifests(locked, repository, { manifests, also });
    },
    async removeBlobs(locked, repository, links) {
      const also = [recordRemoval(links.map(({ link }) => link.digest))];
      await unlinkBlobs(locked, repository, { links, also });
    },
    async removeContent(contents) {
      const gone = await store.deleteAllUnlinked(contents.map(({ digest }) => digest));
      unlinked.clear();
      const removed = contents.filter(({ digest }) => gone.has(digest));
      freedBytes += removed.reduce((sum, { size }) => sum + size, 0);
      return removed;
    },
    forgetRemovals,
    finish: () => forgetRemovals(isRecorded ? [id] : []),
  };
}

interface BegunRemovals {
  /** Of the runs that a crash, or a failure, has ended. */
  readonly ids: readonly string[];
  /** What they had unlinked and not deleted, with its size. */
  readonly contents: ReadonlyMap<Digest, number>;
}

/** What has been stored since is not of them: it is judged as any other. */
export async function findBegun(run: GcRun, inventory: Inventory): Promise<BegunRemovals> {
  const ids: string[] = [];
  const contents = new Map<Digest, number>();
  for await (const { key, value } of entriesOf(run.store.records.removals, '')) {
    ids.push(key);
    for (const digest of value.digests) {
      await run.visit();
      const size = await findOrphan(run.store, inventory, { digest, before: value.unlinkedAt });
      if (size !== undefined) contents.set(digest, size);
    }
  }
  return { ids, contents };
}

/** The size of content that no repository links; undefined for what is needed, or was stored after the instant. */
export async function findOrphan(
  store: HostedStore,
  inventory: Inventory,
  { digest, before }: { readonly digest: Digest; readonly before: string },
): Promise<number | undefined> {
  if (await store.isNeeded(digest)) return undefined;
  const storedAt = await inventory.findStoredAt(digest);
  if (!storedAt || storedAt.toISOString() > before) return undefined;
  return (await store.content.find(digest))?.size;
}

/** Its memory grows with what a run would remove. */
export function createDryRun({ records }: HostedStore, startedAt: Date): Sweeper {
  let freedBytes = 0;
  const removed = new Set<string>();
  const untagged = new Set<string>();
  const isRemoved: Sweeper['isRemoved'] = key => removed.has(key);

  async function noteFreed({ digest, size }: Content): Promise<void> {
    if (!(await hasMember(records.holders, holdersKey(digest), isRemoved))) freedBytes += size;
  }

  return {
    get freedBytes() {
      return freedBytes;
    },
    isRemoved,
    async findManifest(key) {
      const record = removed.has(key) ? undefined : await records.manifests.find(key);
      return record && untagged.has(key) ? { ...record, untaggedAt: startedAt.toISOString() } : record;
    },
    async removeTag(_, { repository, tag, digest }) {
      removed.add(tagKey(repository, tag));
      removed.add(memberKey(repository, digest, tag));
      untagged.add(linkKey(repository, digest));
    },
    async removeManifests(_, repository, manifests) {
      for (const { digest, record } of manifests) {
        removed.add(linkKey(repository, digest));
        removed.add(holderKey(digest, 'manifest', repository));
        for (const child of record.references) removed.add(memberKey(repository, child, digest));
      }
    },
    async removeBlobs(_, repository, links) {
      for (const { link } of links) removed.add(holderKey(link.digest, 'blob', repository));
    },
    async removeContent(contents) {
      for (const content of contents) await noteFreed(content);
      return contents;
    },
    async forgetRemovals() {},
    async finish() {},
  };
}

/** In a dry run many may count as removed. */
const LISTED_AT_ONCE = 100;

/** Whether a key with this prefix is left. */
export async function hasMember(
  collection: Parameters<typeof keysOf>[0],
  prefix: string,
  isRemoved: Sweeper['isRemoved'],
): Promise<boolean> {
  for await (const page of pagesOf(collection.list, { prefix, limit: LISTED_AT_ONCE })) {
    if (page.some(key => !isRemoved(key))) return true;
    await setImmediate();
  }
  return false;
}
