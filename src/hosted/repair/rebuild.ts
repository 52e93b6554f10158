// Rebuilds the records of repositories from disk: the link journal says which repository has what, and the manifests contain the rest.
// Existing records, such as those of an older copy, are retained unless the journal is newer. No content is changed or removed.
import { createDiskStore } from '../../content/disk.ts';
import { createInventory } from '../../content/inventory.ts';
import { createMemory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { keysOf, type RecordStore } from '../../state/store.ts';
import type { GcProgress } from '../gc/report.ts';
import { countVisits } from '../gc/run.ts';
import { linkBlob, linkManifest } from '../links.ts';
import { recountUsage } from '../quota.ts';
import { holdersKey, linkKey, repositoriesOf } from '../records.ts';
import { createHostedStore } from '../store.ts';
import { type LinkCounts, noLinks, type RebuildRun, readDocument, replayJournal, splitLink } from './journal-replay.ts';
import { openLinkJournal, readLinkJournal } from './link-journal.ts';

export interface RebuildReport {
  /** Whether there is a link journal. */
  readonly hasJournal: boolean;
  /** Its truncated or damaged lines. */
  readonly damagedLines: number;
  readonly rebuilt: LinkCounts;
  /** Present in these records, but deleted since according to the journal. */
  readonly removed: LinkCounts;
  /** Named by the journal, but without bytes: not rebuilt. */
  readonly lost: readonly string[];
  /** Manifests that belong to no repository, with their references. */
  readonly recovered: LinkCounts;
  /** Totals after the run. */
  readonly total: LinkCounts & { readonly repositories: number };
  /** Records without bytes, as `lost`: they stay, and the next push uploads the bytes. */
  readonly broken: readonly string[];
  /** Files that belong to no repository after the run. */
  readonly unnamed: { readonly files: number; readonly bytes: number };
}

const MEMORY_BYTES = 8 * 1024 * 1024;

/** May be called again: rebuilt records stay. */
export async function rebuildLinks(options: {
  /** The directory of the hosted content, locked by the caller. */
  readonly directory: string;
  /** The existing records. Closed by the caller. */
  readonly records: RecordStore;
  /** The repository for manifests that belong to none, by their digests. */
  readonly recovered: string;
  readonly onProgress?: ((progress: GcProgress) => void) | undefined;
}): Promise<RebuildReport> {
  const { directory, records, recovered, onProgress } = options;
  // Damaged content is set aside and retained.
  const content = await createDiskStore({ directory, maxDamagedBytes: Number.POSITIVE_INFINITY });
  try {
    // Content is retained, whatever is unlinked here.
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

/** Writes the journal of a directory whose records are correct again. */
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

/** Their repository is unknown: they go to one repository, by digest, with as many of their references as are present. */
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
