// Copies images into other repositories: unchanged (a mirror) or augmented (frozen). Every byte is verified in transit.
import pLimit from 'p-limit';
import { BuildFailure, type Execute, type Executed, kindOfRegistryError } from '../builds/execution.ts';
import type { ProgressEvent, Report } from '../builds/progress.ts';
import type { Failure } from '../builds/record.ts';
import type { CopySpec } from '../builds/spec.ts';
import type { Blob } from '../cache/read-through/cached.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { isImageConfigType, isLayerType } from '../oci/media-type.ts';
import { parseReference } from '../oci/reference.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { imageName } from '../pull/origin.ts';
import { untilAborted } from '../upstream/waiting.ts';
import { type CopyPlan, type PlannedBlob, type PlannedManifest, planCopy, readReferrers } from './copy-plan.ts';
import { type Changes, type CopiedImage, type CopySource, type CopySourceDeps, openCopySource } from './copy-source.ts';
import type { MountingDestination, OpenMountingDestination } from './destination.ts';

/**
 * Of all platforms, or of some: one gives its image, several an index of exactly those. Without changes, what is copied keeps its digest.
 */
export function createCopy(deps: CopyImageDeps): Execute<CopySpec> {
  return async ({ source, platforms, changes }, options) => {
    const locate = () => {
      const origin = deps.origins.locate(source.registry, source.repository);
      return { origin, name: imageName(origin, source.tag), digest: source.digest, platforms, changes };
    };
    return copy(locate, options, deps);
  };
}

interface FinishOrder extends CopyImageOptions {
  /** The image as it was built: the full name of the repository that it was pushed to, and its digest. */
  readonly source: { readonly repository: string; readonly digest: Digest };
  readonly changes: Changes;
}

/** Augments a built image, and pushes the result. Throws BuildFailure, or the signal's reason. */
type Finish = (order: FinishOrder) => Promise<Digest>;

export function createFinish(deps: CopyImageDeps): Finish {
  return async ({ source, changes, ...options }) => {
    const locate = () => {
      const origin = deps.origins.locateName(source.repository);
      return { origin, name: imageName(origin, undefined), digest: source.digest, changes };
    };
    return (await copy(locate, options, deps)).digest;
  };
}

async function copy(locate: () => CopiedImage, options: CopyImageOptions, deps: CopyImageDeps): Promise<Executed> {
  try {
    options.signal.throwIfAborted();
    return await copyImage(locate(), options, deps);
  } catch (error) {
    options.signal.throwIfAborted();
    throw copyFailure(error);
  }
}

// Pushes an image into another repository: blobs first, in parallel, then its manifests, and finally the root with its tag.

export interface CopyImageDeps extends CopySourceDeps {
  readonly openDestination: OpenMountingDestination;
  /** Concurrent blobs per copy. */
  readonly maxBlobs?: number | undefined;
}

interface CopyImageOptions {
  /** The destination: the repository's full name, and the tag. */
  readonly image: string;
  readonly signal: AbortSignal;
  readonly report: Report;
  /** As of ExecuteOptions. */
  readonly confirm?: (() => Promise<void>) | undefined;
}

const MAX_BLOBS = 4;

/** What was pushed. Throws RegistryError, BuildFailure or the signal's reason, once no part of it is being pushed any more. */
async function copyImage(
  image: CopiedImage,
  { image: target, signal, report, confirm }: CopyImageOptions,
  deps: CopyImageDeps,
): Promise<Executed> {
  const { repository, tag } = splitTarget(target);
  const source = await untilAborted(openCopySource(image, deps), signal);
  const plan = await untilAborted(planImage(image, source, tag), signal);
  // When one blob fails, the others are cancelled.
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const destination = deps.openDestination(repository, { signal: until });
  const copying = { source, destination, signal: until, report };
  await copyBlobs(plan.blobs, copying, { stop, maxBlobs: deps.maxBlobs ?? MAX_BLOBS });
  for (const planned of plan.manifests) {
    if (planned.tags.length > 0) await confirm?.();
    await putManifest(planned, copying);
    signal.throwIfAborted();
  }
  const platforms = [...new Set(plan.manifests.flatMap(({ platform }) => platform ?? []))];
  return { digest: source.root.digest, ...(platforms.length > 0 && { platforms }) };
}

/** Signatures and other referrers of unchanged images are pushed first, so that the image is never visible without them. */
async function planImage(image: CopiedImage, { root, readManifest }: CopySource, tag: string): Promise<CopyPlan> {
  const roots = [{ manifest: root, tags: [tag] }];
  const plan = await planCopy(roots, readManifest);
  if (image.changes || image.platforms) return plan;
  const subjects = plan.manifests.filter(({ manifest }) => manifest.kind !== 'other' || manifest === root);
  const digests = subjects.map(({ manifest }) => manifest.digest);
  return planCopy([...(await readReferrers(image.origin, digests)), ...roots], readManifest);
}

/** Waits for all, whatever fails: the first failure is thrown. */
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
  { destination, report }: BlobCopying,
): Promise<void> {
  const step = `manifest ${manifest.digest.slice(0, 19)}`;
  const where = { step, ...(platform !== undefined && { platform }) };
  const { raw, mediaType, digest } = manifest;
  try {
    await destination.putManifest({ raw, mediaType, digest, tags });
  } catch (error) {
    throw copyFailure(error, where);
  }
  report({ kind: 'step', ...where, state: 'done' });
}

function splitTarget(image: string): { readonly repository: string; readonly tag: string } {
  const { tag, digest } = parseReference(image);
  if (tag === undefined || digest) throw new RegistryError('TAG_INVALID', `"${image}" has no tag to push to`);
  return { repository: image.slice(0, -tag.length - 1), tag };
}

// Copies one blob, with progress reports.

interface BlobCopying {
  readonly source: CopySource;
  readonly destination: MountingDestination;
  readonly signal: AbortSignal;
  readonly report: Report;
}

/** The minimum interval between progress reports of a blob. */
const PARTS = 10;

/** Throws BuildFailure, or the signal's reason. */
async function copyBlob(
  { descriptor, platform }: PlannedBlob,
  { source, destination, signal, report }: BlobCopying,
): Promise<void> {
  const { digest, size } = descriptor;
  const step = `${blobKind(descriptor.mediaType)} ${digest.slice(0, 19)}`;
  const where = { step, ...(platform !== undefined && { platform }) };
  const reportStep = (more: Partial<ProgressEvent>) => report({ kind: 'step', ...where, ...more });
  let isCached = true;

  async function open(): Promise<ReadableStream<Uint8Array>> {
    isCached = false;
    const blob = await untilAborted(source.getBlob(digest), signal);
    const stream = await openUntilAborted(blob, signal);
    return stream.pipeThrough(
      countBytes(size, current => reportStep({ progress: { current, total: size } })),
      { signal },
    );
  }

  reportStep({ state: 'started' });
  try {
    await destination.putBlob(descriptor, open, { from: source.originOf(descriptor) });
    reportStep({ state: isCached ? 'cached' : 'done', progress: { current: size, total: size } });
  } catch (error) {
    signal.throwIfAborted();
    const failed = copyFailure(error, where);
    reportStep({ state: 'failed', text: failed.failure.reason });
    throw failed;
  }
}

/** A stream that arrives too late is cancelled. */
async function openUntilAborted(blob: Blob, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  const opening = blob.open();
  try {
    return await untilAborted(opening, signal);
  } catch (error) {
    opening.then(stream => stream.cancel()).catch(() => {});
    throw error;
  }
}

function blobKind(mediaType: string): string {
  if (isLayerType(mediaType)) return 'layer';
  return isImageConfigType(mediaType) ? 'config' : 'blob';
}

function countBytes(total: number, report: (current: number) => void): TransformStream<Uint8Array, Uint8Array> {
  let current = 0;
  let reported = 0;
  return new TransformStream({
    transform(chunk, controller) {
      current += chunk.byteLength;
      const part = Math.floor((current / total) * PARTS);
      // Completion is reported separately.
      if (part > reported && current < total) {
        reported = part;
        report(current);
      }
      controller.enqueue(chunk);
    },
  });
}

// How the failure of a copy is reported to its requester.

/** Returns a BuildFailure as it is. Internal errors are reported by kind only: their message may name our files. */
function copyFailure(error: unknown, where: Pick<Failure, 'platform' | 'step'> = {}): BuildFailure {
  if (error instanceof BuildFailure) return error;
  return new BuildFailure({ ...where, kind: kindOf(error), reason: reasonOf(error) }, { cause: error });
}

/** Failures that may go away are of the infrastructure: a registry that fails, rate-limits us, or sends wrong bytes. */
function kindOf(error: unknown): Failure['kind'] {
  if (!(error instanceof RegistryError) || error.cause instanceof ContentMismatch) return 'infrastructure';
  return kindOfRegistryError(error);
}

function reasonOf(error: unknown): string {
  if (error instanceof RegistryError || error instanceof ContentMismatch) return error.message.replace(/\s+/g, ' ');
  return `the copy failed (${error instanceof Error ? error.name : 'no error'})`;
}
