// Where records and content differ. Orphans are content that no repository links: a crash between bytes and records leaves some, or a deletion
// that failed, but lost records leave many, so orphans have to be old, and a run that would remove most of the content has to be forced. What is
// missing is the reverse, links without content: they stay, and are reported.
import type { Inventory } from '../../content/inventory.ts';
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { formatSize } from '../../oci/wording.ts';
import { keysOf } from '../../state/store.ts';
import { holdersKey, linkKey } from '../records.ts';
import type { GcReport } from './report.ts';
import type { GcRun } from './run.ts';

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
  const found = { blobs: 0, bytes: 0 };
  let files = 0;
  for await (const digest of inventory.list()) {
    files += 1;
    await run.visit();
    const size = await findOrphan(run, inventory, digest);
    if (size === undefined) continue;
    found.blobs += 1;
    found.bytes += size;
  }
  const orphans = { blobs: 0, bytes: 0 };
  if (found.blobs === 0) return orphans;
  if (!force && found.blobs > FEW && found.blobs * 2 > files) throw refusal(found, files);
  for await (const digest of inventory.list()) {
    await run.visit();
    const size = await removeOrphan(run, inventory, digest);
    if (size === undefined) continue;
    orphans.blobs += 1;
    orphans.bytes += size;
  }
  return orphans;
}

/** Its size; undefined for content that is linked, or was added within the grace period. */
async function findOrphan(
  { store, graceBefore }: GcRun,
  inventory: Inventory,
  digest: Digest,
): Promise<number | undefined> {
  const [holder] = await store.records.holders.list({ prefix: holdersKey(digest), limit: 1 });
  if (holder !== undefined) return undefined;
  const storedAt = await inventory.findStoredAt(digest);
  if (!storedAt || storedAt.toISOString() > graceBefore) return undefined;
  return (await store.content.find(digest))?.size;
}

async function removeOrphan(run: GcRun, inventory: Inventory, digest: Digest): Promise<number | undefined> {
  // Most content is linked.
  if ((await findOrphan(run, inventory, digest)) === undefined) return undefined;
  const { store, sweeper } = run;
  if (await store.isNeeded(digest)) return undefined;
  const size = await findOrphan(run, inventory, digest);
  if (size !== undefined) await sweeper.removeContent({ digest, size });
  return size;
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
    await run.visit();
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
async function* linkedContent({ store, sweeper }: GcRun): AsyncGenerator<Digest> {
  let last = '';
  for await (const key of keysOf(store.records.holders, '')) {
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
