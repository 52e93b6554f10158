// Manifests that no tag, no index and no subject keeps, once they have been so for long enough.
import { type Digest, parseDigest } from '../oci/digest.ts';
import { hasMember } from './collect-hand.ts';
import { addTally, NOTHING, type Tally } from './collect-report.ts';
import type { Run } from './collect-run.ts';
import { keysOf, linkKey, type ManifestRecord, memberKey, membersOf } from './records.ts';

interface Candidate {
  readonly repository: string;
  readonly digest: Digest;
  /** Stays where it was pushed or lost a tag after this instant. */
  readonly before: string;
}

/** What went. */
export async function collectManifests(run: Run, repository: string): Promise<Tally> {
  const { untaggedBefore: before } = run;
  if (before === undefined) return NOTHING;
  const prefix = `${repository}@`;
  let removed = NOTHING;
  for await (const key of keysOf(run.room.records.manifests, prefix)) {
    const digest = parseDigest(key.slice(prefix.length));
    removed = addTally(removed, await collectFrom(run, { repository, digest, before }));
  }
  return removed;
}

/** Looks at one manifest and, where it goes, at those that it may have been the last to keep. */
async function collectFrom(run: Run, first: Candidate): Promise<Tally> {
  const candidates = [first];
  let removed = NOTHING;
  for (let candidate = candidates.pop(); candidate; candidate = candidates.pop()) {
    await run.visit();
    const record = await removeUnneeded(run, candidate);
    if (!record) continue;
    removed = addTally(removed, { ...NOTHING, manifests: 1, bytes: record.size });
    candidates.push(...(await dependentsOf(run, candidate, record)));
  }
  return removed;
}

async function dependentsOf(run: Run, parent: Candidate, record: ManifestRecord): Promise<readonly Candidate[]> {
  const { repository, digest } = parent;
  const before = run.untaggedBefore ?? parent.before;
  const referrers = await membersOf(run.room.records.referrers, repository, digest);
  return [
    ...record.references.map(child => ({ repository, digest: child, before })),
    // They go together with their subject, however young beside it.
    ...referrers.map(referrer => ({ repository, digest: parseDigest(referrer), before: run.graceBefore })),
  ];
}

async function removeUnneeded(run: Run, candidate: Candidate): Promise<ManifestRecord | undefined> {
  // First without holding up anybody: most are needed.
  if (!(await findUnneeded(run, candidate))) return undefined;
  const { room, hand, graceBefore } = run;
  return room.exclusively(async () => {
    const record = await findUnneeded(run, candidate);
    if (!record) return undefined;
    const key = linkKey(candidate.repository, candidate.digest);
    const isGone = await room.looks.removeUnseen(key, graceBefore, () => hand.removeManifest({ ...candidate, record }));
    return isGone ? record : undefined;
  });
}

async function findUnneeded(run: Run, { repository, digest, before }: Candidate): Promise<ManifestRecord | undefined> {
  const { room, hand } = run;
  const { records, looks } = room;
  const key = linkKey(repository, digest);
  const record = await hand.findManifest(key);
  if (!record || record.pushedAt > before || (record.untaggedAt ?? '') > before) return undefined;
  if (looks.isSeenAfter(key, run.graceBefore)) return undefined;
  const members = memberKey(repository, digest);
  if (await hasMember(records.tagged, members, hand.isGone)) return undefined;
  if (await hasMember(records.references, members, hand.isGone)) return undefined;
  return (await hasSubject(run, repository, record)) ? undefined : record;
}

/** Whether it can be read or not. */
async function hasSubject({ room, hand }: Run, repository: string, { subject }: ManifestRecord): Promise<boolean> {
  const key = subject && linkKey(repository, subject);
  return key !== undefined && !hand.isGone(key) && room.records.manifests.has(key);
}
