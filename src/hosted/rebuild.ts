// Rebuilding the records of repositories from what lies on the disk: the link journal says who has what, and the bytes of manifests say the rest.
// Records that are there, such as those of an older copy, stay where the journal says nothing newer. No bytes are changed or removed.
import { createDiskStore } from '../content/disk.ts';
import { createInventory, type Inventory } from '../content/inventory.ts';
import { type ContentStore, ContentTooLarge } from '../content/store.ts';
import { createMemory } from '../memory.ts';
import { type Digest, digestAlgorithm, digestOf, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import type { RecordStore } from '../state/store.ts';
import { linkBlob, unlinkBlob } from './blob-links.ts';
import type { CollectProgress } from './collect-report.ts';
import { countVisits, type Run } from './collect-run.ts';
import { repositoriesOf } from './collect-walk.ts';
import { type ManifestDocument, parseDocument } from './document.ts';
import { type JournaledLinks, type JournaledManifest, openLinkJournal, readLinkJournal } from './link-journal.ts';
import { linkManifest, tagChangesOf, unlinkManifest } from './manifest-links.ts';
import { recountUsage } from './quota-usage.ts';
import { holdersKey, keysOf, linkKey } from './records.ts';
import { createRoom, type Room } from './room.ts';
import { unlinkTag } from './tag-links.ts';

interface RebuildOptions {
  /** Of the hosted content; owned by the caller. */
  readonly directory: string;
  /** What is there of them. Closed by the caller. */
  readonly records: RecordStore;
  /** Gets the manifests that belong to no repository, by their digests. */
  readonly recovered: string;
  readonly onProgress?: ((progress: CollectProgress) => void) | undefined;
}

export interface RebuildReport {
  /** What the link journal told; false where there is none. */
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

export interface LinkCounts {
  readonly tags: number;
  readonly manifests: number;
  readonly blobs: number;
}

const MEMORY_BYTES = 8 * 1024 * 1024;

type Counts = { -readonly [K in keyof LinkCounts]: number };

interface Work extends Pick<Run, 'visit'> {
  readonly room: Room;
  readonly inventory: Inventory;
  readonly rebuilt: Counts;
  readonly removed: Counts;
  readonly lost: string[];
}

/** May be called again: what is rebuilt is there then. */
export async function rebuildLinks(options: RebuildOptions): Promise<RebuildReport> {
  const { directory, records, recovered, onProgress } = options;
  // What proves damaged is set aside, and stays.
  const content = await createDiskStore({ directory, maxDamagedBytes: Number.POSITIVE_INFINITY });
  try {
    // Whatever is unlinked here: bytes stay.
    const room = createRoom({
      content,
      records,
      memory: createMemory(MEMORY_BYTES),
      now: () => new Date(),
      reasonToKeep: () => 'records are being rebuilt',
    });
    const work: Work = {
      ...{ room, inventory: createInventory(directory), ...countVisits({ onProgress }) },
      ...{ rebuilt: noLinks(), removed: noLinks(), lost: [] },
    };
    const journal = await readLinkJournal(directory);
    if (journal) await followJournal(work, journal);
    const strays = await findStrays(work);
    const found = await recoverManifests(work, strays, recovered);
    await recountUsage(records);
    const { rebuilt, removed, lost } = work;
    return {
      ...{ hasJournal: journal !== undefined, damagedLines: journal?.damaged ?? 0 },
      ...{ rebuilt, removed, lost, recovered: found },
      ...(await countAll(work)),
      unnamed: await measure(work, strays),
    };
  } finally {
    await content.close();
  }
}

/** The journal of a directory whose records are right again. */
export async function rewriteJournal(directory: string, records: RecordStore): Promise<void> {
  const journal = openLinkJournal({ directory, records, now: () => new Date() });
  await journal.rewrite();
  await journal.close();
}

/** Blobs before the manifests that refer to them, and tags last; what went goes the other way round. */
async function followJournal(work: Work, { blobs, manifests, tags }: JournaledLinks): Promise<void> {
  const { visit } = work;
  for (const [key, { value, goneAt }] of tags) {
    await visit();
    if (!value && goneAt !== undefined) await forgetTag(work, key, goneAt);
  }
  for (const [key, { value, goneAt }] of manifests) {
    await visit();
    if (!value && goneAt !== undefined) await forgetManifest(work, key, goneAt);
  }
  for (const [key, { value, goneAt }] of blobs) {
    await visit();
    if (value) await restoreBlob(work, key, value);
    else if (goneAt !== undefined) await forgetBlob(work, key, goneAt);
  }
  for (const [key, { value }] of manifests) {
    await visit();
    if (value) await restoreManifest(work, key, value);
  }
  for (const [key, { value }] of tags) {
    await visit();
    if (value) await restoreTag(work, key, value);
  }
  // Moving tags has dated it anew.
  for (const [key, { value }] of manifests) {
    await visit();
    if (value) await dateAsJournaled(work, key, value);
  }
}

async function forgetTag({ room, removed }: Work, key: string, goneAt: string): Promise<void> {
  const record = await room.records.tags.get(key);
  if (!record || record.pushedAt > goneAt) return;
  const [repository, tag] = splitTag(key);
  await unlinkTag(room, { repository, tag, digest: record.digest }, new Date(goneAt));
  removed.tags += 1;
}

async function forgetManifest({ room, removed }: Work, key: string, goneAt: string): Promise<void> {
  const record = await room.records.manifests.get(key);
  if (!record || record.pushedAt > goneAt) return;
  const [repository, digest] = splitLink(key);
  await unlinkManifest(room, repository, digest, record);
  removed.manifests += 1;
}

async function forgetBlob({ room, removed }: Work, key: string, goneAt: string): Promise<void> {
  const record = await room.records.blobs.get(key);
  if (!record || record.pushedAt > goneAt) return;
  const [repository, digest] = splitLink(key);
  await unlinkBlob(room, { repository, digest, size: record.size });
  removed.blobs += 1;
}

async function restoreBlob(
  { room, rebuilt, lost }: Work,
  key: string,
  { size, pushedAt }: { readonly size: number; readonly pushedAt: string },
): Promise<void> {
  const [repository, digest] = splitLink(key);
  const record = await room.records.blobs.get(key);
  if (record && record.pushedAt >= pushedAt) return;
  if ((await room.content.find(digest))?.size !== size) return void lost.push(key);
  await linkBlob(room, { repository, digest, size }, { at: new Date(pushedAt) });
  if (!record) rebuilt.blobs += 1;
}

async function restoreManifest(
  { room, rebuilt, lost }: Work,
  key: string,
  { mediaType, pushedAt }: JournaledManifest,
): Promise<void> {
  const [repository, digest] = splitLink(key);
  const { manifests } = room.records;
  const before = await manifests.get(key);
  if (before && before.pushedAt >= pushedAt) return;
  const found = await readDocument(room.content, digest, [mediaType]);
  if (!found) return void lost.push(key);
  await linkManifest(room, { repository, digest, tags: [], ...found }, new Date(pushedAt));
  if (!before) rebuilt.manifests += 1;
}

async function dateAsJournaled(
  { room }: Work,
  key: string,
  { pushedAt, untaggedAt }: JournaledManifest,
): Promise<void> {
  const { manifests } = room.records;
  const record = await manifests.get(key);
  if (record?.pushedAt !== pushedAt || record.untaggedAt === untaggedAt) return;
  await manifests.put(key, { ...record, untaggedAt });
}

async function restoreTag(
  { room, rebuilt, lost }: Work,
  key: string,
  next: { readonly digest: Digest; readonly pushedAt: string },
): Promise<void> {
  const { records } = room;
  const [repository, tag] = splitTag(key);
  const before = await records.tags.get(key);
  if (before && before.pushedAt >= next.pushedAt) return;
  if (!(await records.manifests.get(linkKey(repository, next.digest)))) return void lost.push(key);
  await records.write(await tagChangesOf(room, repository, tag, next));
  if (before?.digest !== next.digest) rebuilt.tags += 1;
}

/** Content that no repository links. */
async function findStrays({ room, inventory, visit }: Work): Promise<readonly Digest[]> {
  const strays: Digest[] = [];
  for await (const digest of inventory.list()) {
    await visit();
    if (!(await room.isNeeded(digest))) strays.push(digest);
  }
  return strays;
}

/** Nobody knows whose they were: they get into one repository, by digest, with as much as there is of what they refer to. */
async function recoverManifests(work: Work, strays: readonly Digest[], repository: string): Promise<LinkCounts> {
  const { room, inventory, visit } = work;
  const { content, records } = room;
  const recovered = noLinks();
  for (const digest of strays) {
    await visit();
    const found = await readDocument(content, digest, ['', mediaTypes.ociIndex, mediaTypes.ociManifest]);
    if (!found?.document.isKnown) continue;
    const at = (await inventory.findKeptAt(digest)) ?? room.now();
    for (const { digest: blob, size } of found.document.blobs) {
      const isThere = (await content.find(blob))?.size === size;
      if (!isThere || (await records.blobs.get(linkKey(repository, blob)))) continue;
      await linkBlob(room, { repository, digest: blob, size }, { at });
      recovered.blobs += 1;
    }
    await linkManifest(room, { repository, digest, tags: [], ...found }, at);
    recovered.manifests += 1;
  }
  return recovered;
}

/** Undefined for what is damaged, and for what is no manifest of one of these types that refers to anything. */
async function readDocument(
  content: ContentStore,
  digest: Digest,
  contentTypes: readonly string[],
): Promise<{ readonly document: ManifestDocument; readonly size: number } | undefined> {
  const raw = await readSmall(content, digest);
  if (!raw || digestOf(raw, digestAlgorithm(digest)) !== digest) return undefined;
  for (const contentType of contentTypes) {
    const document = findDocument(raw, contentType);
    if (document) return { document, size: raw.byteLength };
  }
  return undefined;
}

async function readSmall(content: ContentStore, digest: Digest): Promise<Uint8Array | undefined> {
  try {
    return await content.read(digest, MAX_MANIFEST_BYTES);
  } catch (error) {
    if (error instanceof ContentTooLarge) return undefined;
    throw error;
  }
}

function findDocument(raw: Uint8Array, contentType: string): ManifestDocument | undefined {
  try {
    return parseDocument(raw, contentType);
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}

async function countAll({ room, visit }: Work): Promise<Pick<RebuildReport, 'total' | 'broken'>> {
  const { content, records } = room;
  const total = { ...noLinks(), repositories: 0 };
  const broken: string[] = [];
  for await (const _ of repositoriesOf(room)) total.repositories += 1;
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

async function measure({ room }: Work, strays: readonly Digest[]): Promise<RebuildReport['unnamed']> {
  const unnamed = { files: 0, bytes: 0 };
  for (const digest of strays) {
    if ((await room.records.holders.list({ prefix: holdersKey(digest), limit: 1 })).length > 0) continue;
    unnamed.files += 1;
    unnamed.bytes += (await room.content.find(digest))?.size ?? 0;
  }
  return unnamed;
}

function splitLink(key: string): readonly [string, Digest] {
  const at = key.indexOf('@');
  return [key.slice(0, at), parseDigest(key.slice(at + 1))];
}

/** A name has no colon. */
function splitTag(key: string): readonly [string, string] {
  const at = key.indexOf(':');
  return [key.slice(0, at), key.slice(at + 1)];
}

function noLinks(): Counts {
  return { tags: 0, manifests: 0, blobs: 0 };
}
