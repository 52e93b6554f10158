// Garbage collection of one repository: expired tags, then manifests that nothing refers to any more, then blobs that no manifest refers
// to.
import { setImmediate } from 'node:timers/promises';
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { entriesOf, keysOf, RecordConflict, scanPrefixes } from '../../state/store.ts';
import type { ExpectedLink, RecordedManifest } from '../links.ts';
import { BLOBS, linkKey, type ManifestRecord, memberKey, membersOf, type TagRecord, tagKey } from '../records.ts';
import { addTally, NOTHING, type RepositoryReport, type Tally } from './report.ts';
import { type GcRun, hasMember } from './run.ts';

/** In this order each step frees more for the next: tags refer to manifests, and manifests to each other and to blobs. */
export async function sweepRepository(run: GcRun, repository: string): Promise<RepositoryReport> {
  const tags = await sweepTags(run, repository);
  const manifests = await sweepManifests(run, repository);
  const blobs = await sweepBlobs(run, repository);
  const removed = addTally({ ...manifests, tags }, blobs.removed);
  const kept = addTally(await countKept(run, repository), blobs.kept);
  return { repository, removed, kept };
}

interface FoundTag extends TagRecord {
  readonly tag: string;
}

/** Returns how many were removed. Holds the tags of a repository in memory where a retention rule matches it. */
async function sweepTags(run: GcRun, repository: string): Promise<number> {
  const { retention, startedAt } = run;
  if (!retention.isAbout(repository)) return 0;
  const tags = await findMutable(run, repository);
  let removed = 0;
  for (const tag of await retention.findExpired(repository, tags, startedAt)) {
    await run.visit();
    if (await removeSame(run, repository, tag)) removed += 1;
  }
  return removed;
}

async function findMutable(run: GcRun, repository: string): Promise<readonly FoundTag[]> {
  const { records, options } = run.store;
  const prefix = tagKey(repository, '');
  const found: FoundTag[] = [];
  for await (const { key, value } of entriesOf(records.tags, prefix)) {
    await run.visit();
    const tag = key.slice(prefix.length);
    if (!options.isImmutable(repository, tag)) found.push({ tag, ...value });
  }
  return found;
}

/** Removes the tag, unless it was pushed again since it was found. */
async function removeSame({ store, sweeper }: GcRun, repository: string, found: FoundTag): Promise<boolean> {
  const { tag, digest, pushedAt } = found;
  return store.withLock(repository, async locked => {
    const current = await store.records.tags.find(tagKey(repository, tag));
    if (current?.digest !== digest || current.pushedAt !== pushedAt) return false;
    await sweeper.removeTag(locked, { repository, tag, digest });
    return true;
  });
}

interface Candidate {
  readonly repository: string;
  readonly digest: Digest;
  /** Stays where it was pushed or lost a tag after this instant. */
  readonly before: string;
}

type FoundManifest = Candidate & RecordedManifest;

/**
 * So many records are changed by one transaction, which waits for the disk, and manifests that are pushed to the repository wait for the lock
 * meanwhile. Where each changes a page of its own, these are 2 MiB: a full disk has a reserve for them.
 */
const CHANGES_AT_ONCE = 500;
/** Between two turns of the event loop, each of which takes several reads. */
const CHECKED_AT_ONCE = 10;

/** Those that nothing refers to, and then those that only these referred to. */
async function sweepManifests(run: GcRun, repository: string): Promise<Tally> {
  const { untaggedBefore: before } = run;
  if (before === undefined) return NOTHING;
  const prefix = `${repository}@`;
  const candidates: Candidate[] = [];
  let unneeded = new Map<Digest, FoundManifest>();
  let changes = 0;
  let removed = NOTHING;

  async function removeFound(): Promise<void> {
    const gone = await removeUnneededManifests(run, repository, [...unneeded.values()]);
    unneeded = new Map();
    changes = 0;
    await run.sweeper.removeContent(gone.map(({ digest, record }) => ({ digest, size: record.size })));
    for (const manifest of gone) {
      removed = addTally(removed, { ...NOTHING, manifests: 1, bytes: manifest.record.size });
      candidates.push(...(await dependentsOf(run, manifest)));
    }
  }

  async function examineAll(): Promise<void> {
    for (let candidate = candidates.pop(); candidate; candidate = candidates.pop()) {
      await run.visit();
      // First without the lock: most are needed.
      const record = await findUnneededManifest(run, candidate);
      if (!record || unneeded.has(candidate.digest)) continue;
      if (unneeded.size > 0 && changes + changesOf(record) > CHANGES_AT_ONCE) await removeFound();
      unneeded.set(candidate.digest, { ...candidate, record });
      changes += changesOf(record);
    }
  }

  for await (const key of keysOf(run.store.records.manifests, prefix)) {
    candidates.push({ repository, digest: parseDigest(key.slice(prefix.length)), before });
    await examineAll();
  }
  while (unneeded.size > 0) {
    await removeFound();
    await examineAll();
  }
  return removed;
}

/** How many its removal takes: its link, its holder, its references and its subject's referrer. */
function changesOf({ references }: ManifestRecord): number {
  return references.length + 3;
}

async function dependentsOf(run: GcRun, { repository, digest, record }: FoundManifest): Promise<readonly Candidate[]> {
  const before = run.untaggedBefore ?? run.graceBefore;
  const referrers = await membersOf(run.store.records.referrers, repository, digest);
  return [
    ...record.references.map(child => ({ repository, digest: child, before })),
    // They are removed together with their subject, however recent compared to it.
    ...referrers.map(referrer => ({ repository, digest: parseDigest(referrer), before: run.graceBefore })),
  ];
}

/** Those that were removed. Whether one is needed does not depend on the others: each removal only makes others unneeded. */
async function removeUnneededManifests(
  run: GcRun,
  repository: string,
  found: readonly FoundManifest[],
): Promise<readonly FoundManifest[]> {
  const { store, sweeper, graceBefore } = run;
  return store.withLock(repository, async locked => {
    const manifests = new Map<string, FoundManifest>();
    for (const [at, candidate] of found.entries()) {
      if ((at + 1) % CHECKED_AT_ONCE === 0) await setImmediate();
      const record = await findUnneededManifest(run, candidate);
      if (record) manifests.set(linkKey(repository, candidate.digest), { ...candidate, record });
    }
    const manifestsOf = (keys: readonly string[]) => keys.flatMap(key => manifests.get(key) ?? []);
    const gone = await store.recentAccess.removeIdle([...manifests.keys()], graceBefore, keys =>
      sweeper.removeManifests(locked, repository, manifestsOf(keys)),
    );
    return manifestsOf(gone);
  });
}

async function findUnneededManifest(
  run: GcRun,
  { repository, digest, before }: Candidate,
): Promise<ManifestRecord | undefined> {
  const { store, sweeper } = run;
  const { records, recentAccess } = store;
  const key = linkKey(repository, digest);
  const record = await sweeper.findManifest(key);
  if (!record || record.pushedAt > before || (record.untaggedAt ?? '') > before) return undefined;
  if (recentAccess.isAccessedAfter(key, run.graceBefore)) return undefined;
  const members = memberKey(repository, digest);
  if (await hasMember(records.tagged, members, sweeper.isRemoved)) return undefined;
  if (await hasMember(records.references, members, sweeper.isRemoved)) return undefined;
  return (await hasSubject(run, repository, record)) ? undefined : record;
}

/** Whether or not it can be read. */
async function hasSubject(
  { store, sweeper }: GcRun,
  repository: string,
  { subject }: ManifestRecord,
): Promise<boolean> {
  const key = subject && linkKey(repository, subject);
  return key !== undefined && !sweeper.isRemoved(key) && store.records.manifests.has(key);
}

/** By one transaction: each changes a record in two collections. */
const BLOBS_AT_ONCE = CHANGES_AT_ONCE / 2;
/** Between two turns of the event loop. */
const READ_AT_ONCE = 50;

async function sweepBlobs(run: GcRun, repository: string): Promise<{ readonly removed: Tally; readonly kept: Tally }> {
  const prefix = `${repository}@`;
  const { records, recentAccess } = run.store;
  const isReferredTo = scanPrefixes(records.references, key => !run.sweeper.isRemoved(key));
  let [removed, kept] = [NOTHING, NOTHING];
  let unneeded: ExpectedLink[] = [];

  async function removeFound(): Promise<void> {
    const gone = await removeUnneededBlobs(run, repository, unneeded);
    removed = addTally(removed, tallyOf(gone));
    kept = addTally(kept, tallyOf([...new Set(unneeded).difference(new Set(gone))]));
    unneeded = [];
    await run.sweeper.removeContent(gone.map(({ link }) => link));
  }

  for await (const { key, value, expected } of entriesOf(records.blobs, prefix)) {
    await run.visit();
    const digest = parseDigest(key.slice(prefix.length));
    // First without the lock: most are needed.
    const isNeeded =
      value.pushedAt > run.graceBefore ||
      recentAccess.isAccessedAfter(key, run.graceBefore) ||
      (await isReferredTo(memberKey(repository, digest)));
    if (isNeeded) kept = addTally(kept, { ...NOTHING, blobs: 1, bytes: value.size });
    else unneeded.push({ link: { repository, digest, size: value.size }, expected });
    if (unneeded.length === BLOBS_AT_ONCE) await removeFound();
  }
  if (unneeded.length > 0) await removeFound();
  return { removed, kept };
}

function tallyOf(blobs: readonly ExpectedLink[]): Tally {
  return { ...NOTHING, blobs: blobs.length, bytes: blobs.reduce((sum, { link }) => sum + link.size, 0) };
}

/** Those that were removed. Where one was pushed again meanwhile, it is found by halves. */
async function removeUnneededBlobs(
  run: GcRun,
  repository: string,
  links: readonly ExpectedLink[],
): Promise<readonly ExpectedLink[]> {
  try {
    return await removeTogether(run, repository, links);
  } catch (error) {
    if (!(error instanceof RecordConflict && error.record.collection === BLOBS)) throw error;
    if (links.length === 1) return [];
    const half = Math.ceil(links.length / 2);
    const first = await removeUnneededBlobs(run, repository, links.slice(0, half));
    return [...first, ...(await removeUnneededBlobs(run, repository, links.slice(half)))];
  }
}

async function removeTogether(
  run: GcRun,
  repository: string,
  links: readonly ExpectedLink[],
): Promise<readonly ExpectedLink[]> {
  const { store, sweeper, graceBefore } = run;
  return store.withLock(repository, async locked => {
    const isReferredTo = scanPrefixes(store.records.references, key => !sweeper.isRemoved(key));
    const unneeded = new Map<string, ExpectedLink>();
    for (const [at, each] of links.entries()) {
      if ((at + 1) % READ_AT_ONCE === 0) await setImmediate();
      const { digest } = each.link;
      if (!(await isReferredTo(memberKey(repository, digest)))) unneeded.set(linkKey(repository, digest), each);
    }
    const linksOf = (keys: readonly string[]) => keys.flatMap(key => unneeded.get(key) ?? []);
    const gone = await store.recentAccess.removeIdle([...unneeded.keys()], graceBefore, keys =>
      sweeper.removeBlobs(locked, repository, linksOf(keys)),
    );
    return linksOf(gone);
  });
}

/** The remaining tags and manifests. */
async function countKept(run: GcRun, repository: string): Promise<Tally> {
  const { sweeper, store } = run;
  const { records } = store;
  let kept = NOTHING;
  for await (const key of keysOf(records.tags, tagKey(repository, ''))) {
    await run.visit();
    if (!sweeper.isRemoved(key)) kept = addTally(kept, { ...NOTHING, tags: 1 });
  }
  for await (const key of keysOf(records.manifests, `${repository}@`)) {
    await run.visit();
    const manifest = await sweeper.findManifest(key);
    if (manifest) kept = addTally(kept, { ...NOTHING, manifests: 1, bytes: manifest.size });
  }
  return kept;
}
