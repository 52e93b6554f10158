// Rebuilds the records of repositories from what is on disk: the link journal says which repository has what, and the manifests say the rest.
// Records that are there, such as those of an older copy, stay where the journal says nothing newer. No content is changed or removed.
import { createDiskStore } from '../../content/disk.ts';
import { createInventory } from '../../content/inventory.ts';
import { createMemory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import type { RecordStore } from '../../state/store.ts';
import type { GcProgress } from '../gc/report.ts';
import { countVisits } from '../gc/run.ts';
import { linkBlob, linkManifest } from '../links.ts';
import { recountUsage } from '../quota.ts';
import { holdersKey, keysOf, linkKey, repositoriesOf } from '../records.ts';
import { createHostedStore } from '../store.ts';
import { type LinkCounts, noLinks, type RebuildRun, readDocument, replayJournal, splitLink } from './journal-replay.ts';
import { openLinkJournal, readLinkJournal } from './link-journal.ts';

export interface RebuildReport {
  /** Whether there is a link journal. */
  readonly hasJournal: boolean;
  /** Its lines that were cut or damaged. */
  readonly damagedLines: number;
  readonly rebuilt: LinkCounts;
  /** What these records had, and the journal says to be deleted since. */
  readonly removed: LinkCounts;
  /** Named by the journal, but their bytes are not there: not rebuilt. */
  readonly lost: readonly string[];
  /** Of manifests that belong to no repository; with what they refer to. */
  readonly recovered: LinkCounts;
  /** What there is in the end. */
  readonly total: LinkCounts & { readonly repositories: number };
  /** Records whose bytes are not there, as `lost`: they stay, and the next push brings the bytes. */
  readonly broken: readonly string[];
  /** Files that belong to no repository in the end. */
  readonly unnamed: { readonly files: number; readonly bytes: number };
}

const MEMORY_BYTES = 8 * 1024 * 1024;

/** May be called again: what was rebuilt stays. */
export async function rebuildLinks(options: {
  /** Of the hosted content; owned by the caller. */
  readonly directory: string;
  /** What is there of them. Closed by the caller. */
  readonly records: RecordStore;
  /** Gets the manifests that belong to no repository, by their digests. */
  readonly recovered: string;
  readonly onProgress?: ((progress: GcProgress) => void) | undefined;
}): Promise<RebuildReport> {
  const { directory, records, recovered, onProgress } = options;
  // Damaged content is set aside, and stays.
  const content = await createDiskStore({ directory, maxDamagedBytes: Number.POSITIVE_INFINITY });
  try {
    // Content stays, whatever is unlinked here.
    const store = createHostedStore({
      content,
      records,
      memory: createMemory(MEMORY_BYTES),
      now: () => new Date(),
      reasonToKeep: () => 'records are being rebuilt',
    });
    const run: RebuildRun = {
      ...{ store, inventory: createInventory(directory), ...countVisits({ onProgress }) },
      ...{ rebuilt: noLinks(), removed: noLinks(), lost: [] },
    };
    const journal = await readLinkJournal(directory);
    if (journal) await replayJournal(run, journal);
    const strays = await findStrays(run);
    const found = await recoverManifests(run, strays, recovered);
    await recountUsage(records);
    const { rebuilt, removed, lost } = run;
    return {
      ...{ hasJournal: journal !== undefined, damagedLines: journal?.damaged ?? 0 },
      ...{ rebuilt, removed, lost, recovered: found },
      ...(await countAll(run)),
      unnamed: await measure(run, strays),
    };
  } finally {
    await content.close();
  }
}

/** Writes the journal of a directory whose records are right again. */
export async function rewriteJournal(directory: string, records: RecordStore): Promise<void> {
  const journal = openLinkJournal({ directory, records, now: () => new Date() });
  await journal.rewrite();
  await journal.close();
}

/** Content that no repository links. */
async function findStrays({ store, inventory, visit }: RebuildRun): Promise<readonly Digest[]> {
  const strays: Digest[] = [];
  for await (const digest of inventory.list()) {
    await visit();
    if (!(await store.isNeeded(digest))) strays.push(digest);
  }
  return strays;
}

/** It is unknown where they belonged: they go to one repository, by digest, with as much as there is of what they refer to. */
async function recoverManifests(run: RebuildRun, strays: readonly Digest[], repository: string): Promise<LinkCounts> {
  const { store, inventory, visit } = run;
  const { content, records } = store;
  const recovered = noLinks();
  for (const digest of strays) {
    await visit();
    const found = await readDocument(content, digest, ['', mediaTypes.ociIndex, mediaTypes.ociManifest]);
    if (!found?.document.isKnown) continue;
    const at = (await inventory.findStoredAt(digest)) ?? store.now();
    for (const { digest: blob, size } of found.document.blobs) {
      const isThere = (await content.find(blob))?.size === size;
      if (!isThere || (await records.blobs.get(linkKey(repository, blob)))) continue;
      await linkBlob(store, { repository, digest: blob, size }, { at });
      recovered.blobs += 1;
    }
    await linkManifest(store, { repository, digest, tags: [], ...found }, at);
    recovered.manifests += 1;
  }
  return recovered;
}

async function countAll({ store, visit }: RebuildRun): Promise<Pick<RebuildReport, 'total' | 'broken'>> {
  const { content, records } = store;
  const total = { ...noLinks(), repositories: 0 };
  const broken: string[] = [];
  for await (const _ of repositoriesOf(records)) total.repositories += 1;
  for await (const _ of keysOf(records.tags, '')) total.tags += 1;
  for (const kind of ['manifests', 'blobs'] as const) {
    for await (const key of keysOf(records[kind], '')) {
      await visit();
      total[kind] += 1;
      const record = await records[kind].get(key);
      if ((await content.find(splitLink(key)[1]))?.size !== record?.size) broken.push(key);
    }
  }
  return { total, broken };
}

async function measure({ store }: RebuildRun, strays: readonly Digest[]): Promise<RebuildReport['unnamed']> {
  const unnamed = { files: 0, bytes: 0 };
  for (const digest of strays) {
    if ((await store.records.holders.list({ prefix: holdersKey(digest), limit: 1 })).length > 0) continue;
    unnamed.files += 1;
    unnamed.bytes += (await store.content.find(digest))?.size ?? 0;
  }
  return unnamed;
}
