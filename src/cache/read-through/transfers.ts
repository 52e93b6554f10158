// Transfers from upstreams into the content store: one for each key at a time, which all concurrent requests follow while it grows. A
// failing disk stops no pull: the body then goes only to its client, still verified.
import { type ContentStore, StorageFailure } from '../../content/store.ts';
import type { ByteRange } from '../../oci/bytes.ts';
import type { Digest } from '../../oci/digest.ts';
import { ContentMismatch, createVerifier, type Expected } from '../../oci/verify.ts';
import type { Blob } from './cached.ts';
import { createSingleFlight } from './single-flight.ts';

/** Opens a body with a known digest, wherever it is. */
export type OpenBody = (
  signal?: AbortSignal,
) => Promise<{ readonly body: ReadableStream<Uint8Array>; readonly size: number | undefined }>;

interface TransferRequest {
  readonly key: string;
  readonly digest: Digest;
  readonly openBody: OpenBody;
  /** Of the client that asks. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the whole body was received, verified and stored. Until it resolves, new requests join the transfer. */
  readonly onKept?: (size: number) => Promise<void>;
}

export interface TransfersDeps {
  readonly content: ContentStore;
  /**
   * Called for each transfer that broke, sent wrong bytes or could not be stored after it had begun: readers only see their connection cut.
   */
  readonly onFailed: (digest: Digest, error: unknown) => void;
}

/** One transfer into the store for each key at a time; concurrent requests follow it. */
interface Transfers {
  /** A running transfer, until its result can be found by everyone who looks for it. */
  find(key: string): Blob | undefined;
  /** Starts it unless it is running. */
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
        // A disk that is full or failing must not stop pulls.
        if (error instanceof StorageFailure) return pass(range);
        // Bytes other than expected break the stream, then as later.
        if (!(error instanceof ContentMismatch)) throw error;
      }
      if (!isKept) return ingestion.open(range, pass);
      // It may have been evicted since it was stored.
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
 * The body, or a range of it, for which all of it is read too. The last chunk is held back until everything is verified; ContentMismatch
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
