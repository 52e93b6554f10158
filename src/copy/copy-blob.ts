// Copies one blob, with progress reports.
import { BuildFailure, kindOfRegistryError } from '../builds/execution.ts';
import type { ProgressEvent, Report } from '../builds/progress.ts';
import type { Failure } from '../builds/record.ts';
import type { Blob } from '../cache/read-through/cached.ts';
import { RegistryError } from '../oci/errors.ts';
import { isImageConfigType, isLayerType } from '../oci/media-type.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { untilAborted } from '../upstream/waiting.ts';
import type { PlannedBlob } from './copy-plan.ts';
import type { CopySource } from './copy-source.ts';
import type { MountingDestination } from './destination.ts';

export interface BlobCopying {
  readonly source: CopySource;
  readonly destination: MountingDestination;
  readonly signal: AbortSignal;
  readonly report: Report;
}

/** The minimum interval between progress reports of a blob. */
const PARTS = 10;

/** Throws BuildFailure, or the signal's reason. */
export async function copyBlob(
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
export function copyFailure(error: unknown, where: Pick<Failure, 'platform' | 'step'> = {}): BuildFailure {
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
