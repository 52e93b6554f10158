// Transfers from upstreams into the content store: one for each key at a time, which all concurrent requests follow while it grows. A
// failing disk stops no pull: the body then goes only to its client, still verified.
import { crc32 } from 'node:zlib';
import { type ByteSource, createByteStream, streamSource } from '../../content/byte-stream.ts';
import { type ContentStore, type Ingestion, type Recover, StorageFailure } from '../../content/store.ts';
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
  /** Opens a part of the body in a request of its own. Absent: every part comes from the transfer. */
  readonly openPart?: OpenPart | undefined;
  /** Of the client that asks. */
  readonly signal?: AbortSignal | undefined;
  /** Awaited before the body is opened. A blob that has been stored meanwhile takes the place of the transfer. */
  readonly takeTurn?: ((signal: AbortSignal) => Promise<Turn>) | undefined;
  /** Called when the whole body was received, verified and stored. Until it resolves, new requests join the transfer. */
  readonly onStored?: (size: number) => Promise<void>;
}

interface Turn {
  readonly stored: Blob | undefined;
  /** Called once the transfer is over, or could not begin. */
  end(): void;
}

export interface TransfersDeps {
  readonly content: ContentStore;
  /**
   * Called for each transfer that broke, sent wrong bytes or could not be stored after it had started: readers only see a broken
   * connection.
   */
  readonly onFailed: (digest: Digest, error: unknown) => void;
  /** Called for a range that was passed on separately and differs from the same range of the whole blob. Default: not reported. */
  readonly onWrongPart?: ((digest: Digest, error: unknown) => void) | undefined;
}

/** One transfer into the store for each key at a time; concurrent requests follow it. */
interface Transfers {
  /** A running transfer, until its result can be found in the store. */
  find(key: string): Blob | undefined;
  /** Starts it unless it is running. */
  join(request: TransferRequest): Promise<Blob>;
}

export function createTransfers({ content, onFailed, onWrongPart = () => {} }: TransfersDeps): Transfers {
  const opening = createSingleFlight<Blob>();
  const growing = new Map<string, Blob>();

  async function start(request: TransferRequest, signal: AbortSignal): Promise<Blob> {
    const { end = () => {}, stored } = (await request.takeTurn?.(signal)) ?? {};
    if (!stored) {
      try {
        return await begin(request, signal, end);
      } catch (error) {
        end();
        throw error;
      }
    }
    end();
    return stored;
  }

  async function begin(
    { key, digest, openBody, openPart, onStored }: TransferRequest,
    signal: AbortSignal,
    onEnded: () => void,
  ): Promise<Blob> {
    const { body, size } = await openBody(signal);
    const expected = { digest, size };
    const ingestion = content.ingest(body, expected, { isForReaders: true });
    const blob: Blob = { size, open };
    const openFar =
      openPart &&
      createFarParts({
        ...{ ingestion, size, openPart, recover: pass },
        openStored: range => content.open(digest, range),
        onWrong: error => onWrongPart(digest, error),
      });
    let isStored = false;
    growing.set(key, blob);
    const finish = async () => {
      const stored = await ingestion.done;
      isStored = true;
      await onStored?.(stored.size);
    };
    const end = () => {
      growing.delete(key);
      onEnded();
    };
    finish().then(end, error => {
      end();
      onFailed(digest, error);
    });
    return blob;

    async function pass(range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
      const { body } = await openBody();
      return passThrough(body, expected, { range, onWrong: error => onFailed(digest, error) });
    }

    async function open(range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
      const part = isStored ? undefined : range && openFar?.(range);
      if (part) return part;
      try {
        await ingestion.begun;
      } catch (error) {
        // A disk that is full or failing must not stop pulls.
        if (error instanceof StorageFailure) return pass(range);
        // Bytes other than expected break the stream, then as later.
        if (!(error instanceof ContentMismatch)) throw error;
      }
      if (!isStored) return ingestion.open(range, pass);
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

/** What arrives by itself in a moment is not requested. */
const FAR_BYTES = 4 * 1024 * 1024;
/** Of a blob, so much may be requested twice. */
const MAX_PART = 1 / 2;
/** Of one blob. */
const MAX_PARTS = 100;

type OpenPart = (range: ByteRange, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;

/**
 * Parts that clients request long before a transfer has them, such as the end of a layer, which lazy pullers read first. A part is passed
 * on unverified, as nothing can verify a part by the digest of the whole; it is compared with the whole as soon as that is stored. The
 * result is undefined for a part that is to come from the transfer.
 */
function createFarParts({
  ingestion,
  size = 0,
  openPart,
  recover,
  openStored,
  onWrong,
}: {
  readonly ingestion: Pick<Ingestion, 'received' | 'open' | 'done'>;
  readonly size: number | undefined;
  readonly openPart: OpenPart;
  readonly recover: Recover;
  readonly openStored: (range: ByteRange) => Promise<ReadableStream<Uint8Array> | undefined>;
  readonly onWrong: (error: unknown) => void;
}): (range: ByteRange) => ReadableStream<Uint8Array> | undefined {
  let bytes = 0;
  let parts = 0;

  async function compare({ sum, ...range }: PassedPart): Promise<void> {
    const isStored = await ingestion.done.then(
      () => true,
      () => false,
    );
    const stored = isStored ? await openStored(range) : undefined;
    if (!stored) return;
    let storedSum = 0;
    for await (const chunk of stored) storedSum = crc32(chunk, storedSum);
    if (storedSum === sum) return;
    throw new ContentMismatch(`bytes ${range.start} to ${range.end} differ from those of the whole blob`);
  }

  return range => {
    const isFar = range.start - ingestion.received > FAR_BYTES;
    const length = range.end - range.start + 1;
    if (!isFar || parts >= MAX_PARTS || bytes + length > size * MAX_PART) return undefined;
    parts += 1;
    bytes += length;
    return passPart(range, {
      openPart: signal => openPart(range, signal),
      openRest: start => ingestion.open({ start, end: range.end }, recover),
      onPassed: part => void compare(part).catch(onWrong),
    });
  };
}

interface PassedPart extends ByteRange {
  /** CRC-32. */
  readonly sum: number;
}

/** A part in a request of its own. Where that fails or ends early, the transfer has the rest. */
function passPart(
  { start, end }: ByteRange,
  {
    openPart,
    openRest,
    onPassed,
  }: {
    readonly openPart: (signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;
    readonly openRest: (start: number) => ReadableStream<Uint8Array>;
    readonly onPassed: (part: PassedPart) => void;
  },
): ReadableStream<Uint8Array> {
  const stop = new AbortController();
  // A transfer only continues while it has readers.
  const reader = openRest(start);
  const part = openPart(stop.signal).then(streamSource);
  part.catch(() => {});
  let rest: ByteSource | undefined;
  let offset = start;
  let passed = 0;
  let sum = 0;

  async function readPart(view: Uint8Array): Promise<number> {
    try {
      const bytes = await (await part).read(view);
      sum = crc32(view.subarray(0, bytes), sum);
      passed += bytes;
      return bytes;
    } catch {
      return 0;
    }
  }

  async function readRest(view: Uint8Array): Promise<number> {
    rest ??= streamSource(openRest(offset));
    return rest.read(view);
  }

  return createByteStream({
    async read(view) {
      const left = view.subarray(0, end + 1 - offset);
      if (left.byteLength === 0) return 0;
      const bytes = (rest ? 0 : await readPart(left)) || (await readRest(left));
      offset += bytes;
      return bytes;
    },
    async close() {
      if (passed > 0) onPassed({ start, end: start + passed - 1, sum });
      stop.abort();
      await Promise.all([
        reader.cancel(),
        rest?.close(),
        part.then(
          ({ close }) => close(),
          () => {},
        ),
      ]);
    },
  });
}

/**
 * The body, or a range of it, for which all of it is read too. The last chunk is held back until everything is verified; ContentMismatch
 * breaks the stream, after `onWrong` was called with it. The caller reads it to its end or cancels it, which cancels the body.
 */
export function passThrough(
  body: ReadableStream<Uint8Array>,
  expected: Expected,
  { range, onWrong }: { readonly range?: ByteRange | undefined; readonly onWrong?: (error: unknown) => void } = {},
): ReadableStream<Uint8Array> {
  const verifier = createVerifier(expected, onWrong);
  const { start, end } = range ?? { start: 0, end: Number.POSITIVE_INFINITY };
  let pending: Uint8Array | undefined;
  return body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const offset = verifier.size;
        verifier.update(chunk);
        const part = chunk.subarray(Math.max(0, start - offset), Math.max(0, end + 1 - offset));
        if (part.byteLength === 0) return;
        if (pending) controller.enqueue(pending);
        pending = part;
      },
      flush(controller) {
        verifier.finish();
        if (pending) controller.enqueue(pending);
      },
    }),
  );
}
