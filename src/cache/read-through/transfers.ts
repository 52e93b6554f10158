// Transfers from upstreams into the content store: one for each key at a time, which all who ask meanwhile read while it grows. A disk that
// takes nothing stops no pull: the body then goes to its client alone, verified all the same.
import { type ContentStore, StorageFailure } from '../../content/store.ts';
import type { ByteRange } from '../../oci/bytes.ts';
import type { Digest } from '../../oci/digest.ts';
import { ContentMismatch, createVerifier, type Expected } from '../../oci/verify.ts';
import type { Blob } from './cached.ts';
import { createSingleFlight } from './single-flight.ts';

/** Opens a body whose digest is known, from wherever it is. */
export type OpenBody = (
  signal?: AbortSignal,
) => Promise<{ readonly body: ReadableStream<Uint8Array>; readonly size: number | undefined }>;

interface TransferRequest {
  readonly key: string;
  readonly digest: Digest;
  readonly openBody: OpenBody;
  /** Of the client that asks. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the whole body was sent, verified and stored. Until it resolves, whoever asks joins the transfer. */
  readonly onKept?: (size: number) => Promise<void>;
}

export interface TransfersDeps {
  readonly content: ContentStore;
  /** Called for each transfer that broke, lied or could not be stored after it had begun: readers only see their connection cut. */
  readonly onFailed: (digest: Digest, error: unknown) => void;
}

/** One transfer into the store for each key at a time; all who ask meanwhile follow it. */
interface Transfers {
  /** One that goes on: until what it leaves can be found by all who look for it. */
  find(key: string): Blob | undefined;
  /** Starts it, unless it goes on. */
  join(request: TransferRequest): Promise<Blob>;
}

export function createTransfers({ content, onFailed }: TransfersDeps): Transfers {
  const opening = createSingleFlight<Blob>();
  const growing = new Map<string, Blob>();

  async function start({ key, digest, openBody, onKept }: TransferRequest, signal: AbortSignal): Promise<Blob> {
    const { body, size } = await openBody(signal);
    const expected = { digest, size };
    const ingestion = content.ingest(body, expected, { isForReaders: true });
    const blob: Blob = { size, open };
    let isKept = false;
    growing.set(key, blob);
    const finish = async () => {
      const kept = await ingestion.done;
      isKept = true;
      await onKept?.(kept.size);
    };
    finish().then(
      () => growing.delete(key),
      error => {
        growing.delete(key);
        onFailed(digest, error);
      },
    );
    return blob;

    async function pass(range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
      return passThrough((await openBody()).body, expected, range);
    }

    async function open(range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
      try {
        await ingestion.begun;
      } catch (error) {
        // A disk that takes nothing, or no more, must not stop pulls.
        if (error instanceof StorageFailure) return pass(range);
        // Other bytes than promised break the stream, as they do later on.
        if (!(error instanceof ContentMismatch)) throw error;
      }
      if (!isKept) return ingestion.open(range, pass);
      // What is kept may have been dropped since.
      return (await content.open(digest, range)) ?? pass(range);
    }
  }

  return {
    find: key => growing.get(key),
    join: async request =>
      growing.get(request.key) ?? opening(request.key, signal => start(request, signal), request.signal),
  };
}

/**
 * The body, or a part of it, for which all of it is read too. The last chunk is held back until everything is verified; ContentMismatch
 * breaks the stream. The caller reads it to its end or cancels it, which cancels the body.
 */
export function passThrough(
  body: ReadableStream<Uint8Array>,
  expected: Expected,
  range?: ByteRange,
): ReadableStream<Uint8Array> {
  const verifier = createVerifier(expected);
  const { start, end } = range ?? { start: 0, end: Number.POSITIVE_INFINITY };
  let held: Uint8Array | undefined;
  return body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const offset = verifier.size;
        verifier.update(chunk);
        const part = chunk.subarray(Math.max(0, start - offset), Math.max(0, end + 1 - offset));
        if (part.byteLength === 0) return;
        if (held) controller.enqueue(held);
        held = part;
      },
      flush(controller) {
        verifier.finish();
        if (held) controller.enqueue(held);
      },
    }),
  );
}
