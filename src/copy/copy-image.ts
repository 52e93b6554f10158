// An image on its way into another repository: blobs first, many at once, then its manifests, and the root with its tag in the end.
import pLimit from 'p-limit';
import type { Tell } from '../builds/progress.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { parseReference } from '../oci/reference.ts';
import { untilAborted } from '../upstream/until-aborted.ts';
import { type BlobCopying, copyBlob } from './copy-blob.ts';
import { copyFailure } from './copy-failure.ts';
import { type CopyPlan, type PlannedBlob, type PlannedManifest, planCopy } from './copy-plan.ts';
import { readReferrers } from './copy-referrers.ts';
import { type CopiedImage, type CopySource, type CopySourceDeps, openCopySource } from './copy-source.ts';
import type { OpenMountingDestination } from './destination.ts';

export interface CopyImageDeps extends CopySourceDeps {
  readonly openDestination: OpenMountingDestination;
  /** How many blobs are on their way at once, for each copy. */
  readonly maxBlobs?: number | undefined;
}

export interface CopyImageOptions {
  /** Where it has to be in the end: the repository's full name, and the tag. */
  readonly image: string;
  readonly signal: AbortSignal;
  readonly tell: Tell;
}

const MAX_BLOBS = 4;

/** The digest of what was pushed. Throws RegistryError, BuildFailure or the signal's reason, once nothing of it is being pushed any more. */
export async function copyImage(
  image: CopiedImage,
  { image: target, signal, tell }: CopyImageOptions,
  deps: CopyImageDeps,
): Promise<Digest> {
  const { repository, tag } = splitTarget(target);
  const source = await untilAborted(openCopySource(image, deps), signal);
  const plan = await untilAborted(planImage(image, source, tag), signal);
  // When one blob fails, the others need not arrive.
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const destination = deps.openDestination(repository, { signal: until });
  const copying = { source, destination, signal: until, tell };
  await copyBlobs(plan.blobs, copying, { stop, maxBlobs: deps.maxBlobs ?? MAX_BLOBS });
  for (const planned of plan.manifests) {
    await putManifest(planned, copying);
    signal.throwIfAborted();
  }
  return source.root.digest;
}

/** Signatures and other referrers are about what stays as it is, and come before it: nobody pulls it without them. */
async function planImage(image: CopiedImage, { root, readManifest }: CopySource, tag: string): Promise<CopyPlan> {
  const roots = [{ manifest: root, tags: [tag] }];
  const plan = await planCopy(roots, readManifest);
  if (image.changes || image.platforms) return plan;
  const subjects = plan.manifests.filter(({ manifest }) => manifest.kind !== 'other' || manifest === root);
  const digests = subjects.map(({ manifest }) => manifest.digest);
  return planCopy([...(await readReferrers(image.origin, digests)), ...roots], readManifest);
}

/** Waits for all, whatever becomes of one: the first failure counts. */
async function copyBlobs(
  blobs: readonly PlannedBlob[],
  copying: BlobCopying,
  { stop, maxBlobs }: { readonly stop: AbortController; readonly maxBlobs: number },
): Promise<void> {
  const limit = pLimit(maxBlobs);
  await Promise.allSettled(
    blobs.map(blob =>
      limit(async () => {
        copying.signal.throwIfAborted();
        await copyBlob(blob, copying).catch(error => stop.abort(error));
      }),
    ),
  );
  copying.signal.throwIfAborted();
}

async function putManifest(
  { manifest, tags, platform }: PlannedManifest,
  { destination, tell }: BlobCopying,
): Promise<void> {
  const step = `manifest ${manifest.digest.slice(0, 19)}`;
  const where = { step, ...(platform !== undefined && { platform }) };
  const { raw, mediaType, digest } = manifest;
  try {
    await destination.putManifest({ raw, mediaType, digest, tags });
  } catch (error) {
    throw copyFailure(error, where);
  }
  tell({ kind: 'step', ...where, state: 'done' });
}

function splitTarget(image: string): { readonly repository: string; readonly tag: string } {
  const { tag, digest } = parseReference(image);
  if (tag === undefined || digest) throw new RegistryError('TAG_INVALID', `"${image}" names no tag to push to`);
  return { repository: image.slice(0, -tag.length - 1), tag };
}
