// Replays the link journal: sets the records of repositories to the last journal entry for each link, where the bytes are present.
import type { Inventory } from '../../content/inventory.ts';
import { type ContentStore, ContentTooLarge } from '../../content/store.ts';
import { type Digest, digestAlgorithm, digestOf, parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.ts';
import type { GcRun } from '../gc/run.ts';
import { linkBlob, linkManifest, tagChangesOf, unlinkBlob, unlinkManifest, unlinkTag } from '../links.ts';
import { linkKey } from '../records.ts';
import { type ManifestDocument, parseDocument } from '../repository/manifest-document.ts';
import type { HostedStore } from '../store.ts';
import type { JournaledLinks, JournaledManifest } from './link-journal.ts';

export interface LinkCounts {
  readonly tags: number;
  readonly manifests: number;
  readonly blobs: number;
}

type Counts = { -readonly [K in keyof LinkCounts]: number };

export interface RebuildRun extends Pick<GcRun, 'visit'> {
  readonly store: HostedStore;
  readonly inventory: Inventory;
  readonly rebuilt: Counts;
  readonly removed: Counts;
  readonly lost: string[];
}

/** Links blobs before the manifests that refer to them, and tags last; unlinks in the opposite order. */
export async function replayJournal(run: RebuildRun, { blobs, manifests, tags }: JournaledLinks): Promise<void> {
  const { visit } = run;
  for (const [key, { value, goneAt }] of tags) {
    await visit();
    if (!value && goneAt !== undefined) await removeTag(run, key, goneAt);
  }
  for (const [key, { value, goneAt }] of manifests) {
    await visit();
    if (!value && goneAt !== undefined) await removeManifest(run, key, goneAt);
  }
  for (const [key, { value, goneAt }] of blobs) {
    await visit();
    if (value) await restoreBlob(run, key, value);
    else if (goneAt !== undefined) await removeBlob(run, key, goneAt);
  }
  for (const [key, { value }] of manifests) {
    await visit();
    if (value) await restoreManifest(run, key, value);
  }
  for (const [key, { value }] of tags) {
    await visit();
    if (value) await restoreTag(run, key, value);
  }
  // Moving tags has changed its date.
  for (const [key, { value }] of manifests) {
    await visit();
    if (value) await dateAsJournaled(run, key, value);
  }
}

async function removeTag({ store, removed }: RebuildRun, key: string, goneAt: string): Promise<void> {
  const record = await store.records.tags.get(key);
  if (!record || record.pushedAt > goneAt) return;
  const [repository, tag] = splitTag(key);
  await unlinkTag(store, { repository, tag, digest: record.digest }, new Date(goneAt));
  removed.tags += 1;
}

async function removeManifest({ store, removed }: RebuildRun, key: string, goneAt: string): Promise<void> {
  const record = await store.records.manifests.get(key);
  if (!record || record.pushedAt > goneAt) return;
  const [repository, digest] = splitLink(key);
  await unlinkManifest(store, repository, digest, record);
  removed.manifests += 1;
}

async function removeBlob({ store, removed }: RebuildRun, key: string, goneAt: string): Promise<void> {
  const { record, expected } = await store.records.blobs.expecting(key);
  if (!record || record.pushedAt > goneAt) return;
  const [repository, digest] = splitLink(key);
  await unlinkBlob(store, { repository, digest, size: record.size }, expected);
  removed.blobs += 1;
}

async function restoreBlob(
  { store, rebuilt, lost }: RebuildRun,
  key: string,
  { size, pushedAt }: { readonly size: number; readonly pushedAt: string },
): Promise<void> {
  const [repository, digest] = splitLink(key);
  const record = await store.records.blobs.get(key);
  if (record && record.pushedAt >= pushedAt) return;
  if ((await store.content.find(digest))?.size !== size) return void lost.push(key);
  await linkBlob(store, { repository, digest, size }, { at: new Date(pushedAt) });
  if (!record) rebuilt.blobs += 1;
}

async function restoreManifest(
  { store, rebuilt, lost }: RebuildRun,
  key: string,
  { mediaType, pushedAt }: JournaledManifest,
): Promise<void> {
  const [repository, digest] = splitLink(key);
  const { manifests } = store.records;
  const before = await manifests.get(key);
  if (before && before.pushedAt >= pushedAt) return;
  const found = await readDocument(store.content, digest, [mediaType]);
  if (!found) return void lost.push(key);
  await linkManifest(store, { repository, digest, tags: [], ...found }, new Date(pushedAt));
  if (!before) rebuilt.manifests += 1;
}

async function dateAsJournaled(
  { store }: RebuildRun,
  key: string,
  { pushedAt, untaggedAt }: JournaledManifest,
): Promise<void> {
  const { manifests } = store.records;
  const record = await manifests.get(key);
  if (record?.pushedAt !== pushedAt || record.untaggedAt === untaggedAt) return;
  await manifests.put(key, { ...record, untaggedAt });
}

async function restoreTag(
  { store, rebuilt, lost }: RebuildRun,
  key: string,
  next: { readonly digest: Digest; readonly pushedAt: string },
): Promise<void> {
  const { records } = store;
  const [repository, tag] = splitTag(key);
  const before = await records.tags.get(key);
  if (before && before.pushedAt >= next.pushedAt) return;
  if (!(await records.manifests.get(linkKey(repository, next.digest)))) return void lost.push(key);
  await records.write(await tagChangesOf(store, repository, tag, next));
  if (before?.digest !== next.digest) rebuilt.tags += 1;
}

/** Undefined for damaged content, and for anything but a manifest of one of these types that has references. */
export async function readDocument(
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

export function splitLink(key: string): readonly [string, Digest] {
  const at = key.indexOf('@');
  return [key.slice(0, at), parseDigest(key.slice(at + 1))];
}

/** Names have no colon. */
function splitTag(key: string): readonly [string, string] {
  const at = key.indexOf(':');
  return [key.slice(0, at), key.slice(at + 1)];
}

export function noLinks(): Counts {
  return { tags: 0, manifests: 0, blobs: 0 };
}
