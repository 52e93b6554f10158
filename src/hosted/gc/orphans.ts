// Where records and content differ. Orphans are content that no repository links: a crash between bytes and records leaves some, or a deletion
// that failed, but lost records leave many, so orphans have to be old, and a run that would remove most of the content has to be forced. Those
// that an earlier run has unlinked are recorded: the next run deletes them in any case. What is missing is the reverse, links without content:
// they stay, and are reported.
import type { Inventory } from '../../content/inventory.ts';
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { formatSize } from '../../oci/wording.ts';
import { keysOf, scanPrefixes } from '../../state/store.ts';
import { holdersKey, linkKey } from '../records.ts';
import type { GcReport } from './report.ts';
import { type Content, findBegun, findOrphan, type GcRun } from './run.ts';

/** Nothing was removed: the run is more likely a mistake than intended. The message says why, and how to proceed. */
export class GcRefused extends Error {
  override readonly name = 'GcRefused';
}

/** A crash leaves no more than this. */
const FEW = 10;

/** Examines all content before it removes any. Throws GcRefused. */
export async function sweepOrphans(
  run: GcRun,
  {
    inventory,
    force,
  }: {
    readonly inventory: Inventory;
    /** Whether to remove them even where they are most of the content. */
    readonly force: boolean;
  },
): Promise<GcReport['orphans']> {
  const begun = await findBegun(run, inventory);
  const found = { blobs: 0, bytes: 0 };
  let files = 0;
  for await (const digests of sortedParts(inventory)) {
    const others = digests.filter(digest => !begun.contents.has(digest));
    files += others.length;
    for await (const { size } of findOrphans(run, inventory, others)) {
      found.blobs += 1;
      found.bytes += size;
    }
  }
  if (!force && found.blobs > FEW && found.blobs * 2 > files) throw refusal(found, files);
  const orphans = { blobs: 0, bytes: 0 };
  const remove = async (contents: readonly Content[]) => {
    const gone = await run.sweeper.removeContent(contents);
    orphans.blobs += gone.length;
    orphans.bytes += gone.reduce((sum, { size }) => sum + size, 0);
  };
  await remove([...begun.contents].map(([digest, size]) => ({ digest, size })));
  await run.sweeper.forgetRemovals(begun.ids);
  if (found.blobs === 0) return orphans;
  for await (const digests of sortedParts(inventory)) {
    const others = digests.filter(digest => !begun.contents.has(digest));
    await remove(await Array.fromAsync(findOrphans(run, inventory, others)));
  }
  return orphans;
}

const LISTED_AT_ONCE = 500;

/** All content, in parts that are sorted each. */
async function* sortedParts(inventory: Inventory): AsyncGenerator<readonly Digest[]> {
  let part: Digest[] = [];
  for await (const digest of inventory.list()) {
    if (part.push(digest) < LISTED_AT_ONCE) continue;
    yield part.sort();
    part = [];
  }
  yield part.sort();
}

/** Most content is linked: that is read for many at once. */
async function* findOrphans(run: GcRun, inventory: Inventory, digests: readonly Digest[]) {
  const isLinked = scanPrefixes(run.store.records.holders);
  for (const digest of digests) {
    await run.visit();
    if (await isLinked(holdersKey(digest))) continue;
    const size = await findOrphan(run.store, inventory, { digest, before: run.graceBefore });
    if (size !== undefined) yield { digest, size };
  }
}

const MAX_NAMED = 20;
const MAX_REPOSITORIES = 5;

/** Holds one folder of the content in memory at a time. */
export async function findMissing(run: GcRun, inventory: Inventory): Promise<GcReport['missing']> {
  const content: GcReport['missing']['content'] = [];
  let [blobs, bytes] = [0, 0];
  let folder = '';
  let stored = new Set<string>();
  // Sorted by digest, and so folder by folder.
  for await (const digest of linkedContent(run)) {
    const itsFolder = digest.slice(0, digest.indexOf(':') + 3);
    if (itsFolder !== folder) stored = new Set(await inventory.listBeside(digest));
    folder = itsFolder;
    // It may have been pushed since its folder was read. The store may remember what is gone.
    if (stored.has(digest) || (await inventory.findStoredAt(digest))) continue;
    const { size, repositories } = await describeLinks(run, digest);
    blobs += 1;
    bytes += size;
    if (content.length < MAX_NAMED) content.push({ digest, size, repositories });
  }
  return { blobs, bytes, content };
}

/** Each digest that a repository links once, in order. */
async function* linkedContent({ store, sweeper, visit }: GcRun): AsyncGenerator<Digest> {
  let last = '';
  for await (const key of keysOf(store.records.holders, '')) {
    await visit();
    const digest = key.slice(0, key.indexOf(' '));
    if (digest === last || sweeper.isRemoved(key)) continue;
    last = digest;
    yield parseDigest(digest);
  }
}

async function describeLinks({ store, sweeper }: GcRun, digest: Digest) {
  const { holders, blobs, manifests } = store.records;
  const keys = await holders.list({ prefix: holdersKey(digest), limit: MAX_REPOSITORIES });
  const names = keys.filter(key => !sweeper.isRemoved(key)).map(key => key.slice(key.lastIndexOf(' ') + 1));
  const repositories = [...new Set(names)];
  const links = repositories.map(repository => linkKey(repository, digest));
  const found = await Promise.all(links.flatMap(link => [blobs.find(link), manifests.find(link)]));
  return { size: found.find(record => record !== undefined)?.size ?? 0, repositories };
}

function refusal({ blobs, bytes }: GcReport['orphans'], files: number): GcRefused {
  const what = `${blobs} of ${files} files (${formatSize(bytes)}) belong to no repository, more than a crash leaves`;
  const remedy =
    'if records were lost or are an older copy, restore them or run `veneer repair`; if these files should be removed, collect with --force';
  return new GcRefused(`nothing was collected: ${what}. ${remedy}`);
}
