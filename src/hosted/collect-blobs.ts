// Blobs that no manifest of their repository refers to.
import { type Digest, parseDigest } from '../oci/digest.ts';
import { hasMember } from './collect-hand.ts';
import { addTally, NOTHING, type Tally } from './collect-report.ts';
import type { Run } from './collect-run.ts';
import { entriesOf } from './collect-walk.ts';
import { type BlobRecord, linkKey, memberKey } from './records.ts';

export async function collectBlobs(
  run: Run,
  repository: string,
): Promise<{ readonly removed: Tally; readonly kept: Tally }> {
  const prefix = `${repository}@`;
  let [removed, kept] = [NOTHING, NOTHING];
  for await (const { key, value } of entriesOf(run.room.records.blobs, prefix)) {
    await run.visit();
    const one: Tally = { ...NOTHING, blobs: 1, bytes: value.size };
    if (await removeUnneeded(run, repository, parseDigest(key.slice(prefix.length)))) removed = addTally(removed, one);
    else kept = addTally(kept, one);
  }
  return { removed, kept };
}

async function removeUnneeded(run: Run, repository: string, digest: Digest): Promise<boolean> {
  // First without holding up anybody: most are needed.
  if (!(await findUnneeded(run, repository, digest))) return false;
  const { room, hand, graceBefore } = run;
  return room.exclusively(async () => {
    const link = await findUnneeded(run, repository, digest);
    if (!link) return false;
    const key = linkKey(repository, digest);
    return room.looks.removeUnseen(key, graceBefore, () => hand.removeBlob({ repository, digest, size: link.size }));
  });
}

async function findUnneeded(run: Run, repository: string, digest: Digest): Promise<BlobRecord | undefined> {
  const { records, looks } = run.room;
  const key = linkKey(repository, digest);
  const link = await records.blobs.find(key);
  if (!link || link.pushedAt > run.graceBefore || looks.isSeenAfter(key, run.graceBefore)) return undefined;
  const isReferredTo = await hasMember(records.references, memberKey(repository, digest), run.hand.isGone);
  return isReferredTo ? undefined : link;
}
