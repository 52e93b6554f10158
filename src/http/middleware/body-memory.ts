// Memory for bodies: request bodies that are read whole or as they come, and the send buffers of responses. A few large buffers make a single transfer
// fast; with many transfers the machine is busy anyway, and memory must not grow with their number. A slow client needs no more than the
// smallest buffer, but only shows itself as slow after some megabytes, which the system buffers at once for any client. The few that come first are
// taken for quick ones until then: most blobs are smaller than that.
import type { IncomingMessage } from 'node:http';
import { type BudgetShare, type ByteBudget, createByteBudget } from '../../augment/budget.ts';
import { RegistryError } from '../../oci/errors.ts';

/** The share of one response body. */
export interface BufferShare {
  /** Whether the body may have two buffers: one is filled while the other is written. */
  readonly hasPair: boolean;
  /** The first buffer. */
  open(): ArrayBuffer;
  /**
   * A buffer of the currently appropriate size: this one, which the client took `durationMs` to read and which must not be used any more,
   * or a new one.
   */
  fit(buffer: ArrayBuffer, durationMs: number): ArrayBuffer;
  /** Keeps a buffer for other bodies: nothing may read or write it any more. */
  giveBack(buffer: ArrayBuffer): void;
  /** Called once, when the body needs no more buffers. */
  leave(): void;
}

export interface SendBuffersOptions {
  /** Shared by all bodies, as far as `minBytes` allows. */
  readonly totalBytes?: number;
  /** The memory that is available: at most this much is shared. */
  readonly spareBytes?: number;
  /** Smaller buffers cost more processor time than they save memory. */
  readonly minBytes?: number;
  /** Larger ones are not faster. */
  readonly maxBytes?: number;
}

/** A client that reads a buffer faster is waiting for us. */
const QUICK_MS = 100;
/** A buffer may be at most this fraction of what its client has read without a pause. */
const PART = 1 / 128;
/** While all bodies may have two of the largest buffers: a layer of a few megabytes is sent with those, too. */
const PART_OF_FEW = 1 / 32;
/**
 * Shared by all bodies that were never slow: counted as if their clients had taken it without a pause. All that turn out slow have at most
 * 12 MiB of buffers for it.
 */
const ASSUMED_QUICK_BYTES = 64 * 1024 * 1024;
/** A body that is short has the next chunk read while one is sent, too. */
const CHUNKS_OF_BODY = 4;
/** Buffers that are kept while no body has them: at most 4 MiB. */
const MAX_SPARE = 8;

/** Sizes are powers of two, so that a body rarely changes buffers while others come and go. */
export function createSendBuffers({
  totalBytes: wantedBytes = 64 * 1024 * 1024,
  spareBytes = Number.POSITIVE_INFINITY,
  minBytes = 64 * 1024,
  maxBytes = 512 * 1024,
}: SendBuffersOptions = {}): (bodyBytes?: number) => BufferShare {
  const totalBytes = Math.min(wantedBytes, spareBytes);
  let bodies = 0;
  /** For the next bodies: the system clears each page of a new buffer, which takes longer than to read it from a file. */
  const spare: ArrayBuffer[] = [];

  const size = (bytes: number) => Math.min(maxBytes, Math.max(minBytes, 2 ** Math.floor(Math.log2(bytes))));

  return (bodyBytes = Number.POSITIVE_INFINITY) => {
    bodies += 1;
    let quickBytes = 0;
    let wasSlow = false;
    const neededBytes = 2 ** Math.ceil(Math.log2(bodyBytes / CHUNKS_OF_BODY));
    const areFew = () => totalBytes >= bodies * 2 * maxBytes;
    const assumedBytes = () => (wasSlow ? 0 : ASSUMED_QUICK_BYTES / bodies);
    const earnedBytes = () => (assumedBytes() + quickBytes) * (areFew() ? PART_OF_FEW : PART);
    const ownBytes = () => size(Math.min(totalBytes / bodies, earnedBytes(), neededBytes));
    return {
      get hasPair() {
        return areFew() && earnedBytes() >= minBytes;
      },
      open() {
        const bytes = ownBytes();
        const at = spare.findIndex(buffer => buffer.byteLength === bytes);
        return (at < 0 ? undefined : spare.splice(at, 1)[0]) ?? new ArrayBuffer(bytes);
      },
      fit(buffer, durationMs) {
        const isSlow = durationMs >= QUICK_MS;
        wasSlow ||= isSlow;
        quickBytes = isSlow ? 0 : quickBytes + buffer.byteLength;
        const bytes = ownBytes();
        // The rest is freed at once, not by the next garbage collection.
        return buffer.byteLength === bytes ? buffer : buffer.transfer(bytes);
      },
      giveBack(buffer) {
        if (buffer.byteLength > 0 && spare.length < MAX_SPARE) spare.push(buffer);
      },
      leave() {
        bodies -= 1;
      },
    };
  };
}

/** This many of the largest may be held at once, apart from the reserve. */
const MAX_LARGEST = 4;
/** One body may use the whole budget except its reserve. */
const RESERVE_FACTOR = 4 / 3;

/** At most `spareBytes`, but enough for one of the largest. */
export function createBodyBudget(largestBytes: number, spareBytes: number): ByteBudget {
  const most = Math.min(largestBytes * MAX_LARGEST, spareBytes);
  return createByteBudget('the requests', Math.max(most, largestBytes * RESERVE_FACTOR));
}

/** The error if there is no memory for this many more bytes. A rejected request releases its share at once. */
export function takeShare(share: BudgetShare, bytes: number): RegistryError | undefined {
  try {
    share.take(bytes);
    return undefined;
  } catch (error) {
    share.close();
    if (error instanceof RegistryError) return error;
    throw error;
  }
}

/** How much may wait for its reader; then the socket is not read until all of it is taken. */
const MAX_UNREAD_BYTES = 256 * 1024;
/** A piece counts with this at least: a client may send single bytes. */
const MIN_PIECE_BYTES = 256;

/**
 * The pieces of a request body as Node received them: through web streams each would pass three queues, with a dozen promises. Throws where
 * the body breaks off. Who leaves early leaves the rest to the server, which drains it.
 */
export async function* readIncoming(incoming: IncomingMessage): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let isOver = false;
  let failure: Error | undefined;
  let changed = Promise.withResolvers<void>();

  const onData = (piece: Uint8Array) => {
    waiting.push(piece);
    waitingBytes += Math.max(piece.byteLength, MIN_PIECE_BYTES);
    if (waitingBytes >= MAX_UNREAD_BYTES) incoming.pause();
    changed.resolve();
  };
  const onEnd = () => {
    isOver = true;
    changed.resolve();
  };
  const onBroken = (error?: Error) => {
    if (!isOver) failure ??= error ?? new Error('the client has left');
    onEnd();
  };
  if (incoming.destroyed) onBroken();
  incoming.on('data', onData).on('end', onEnd).on('error', onBroken).on('close', onBroken);
  try {
    for (;;) {
      const pieces = waiting;
      waiting = [];
      waitingBytes = 0;
      yield* pieces;
      if (waiting.length > 0) continue;
      if (failure) throw failure;
      if (isOver) return;
      changed = Promise.withResolvers();
      incoming.resume();
      await changed.promise;
    }
  } finally {
    incoming.pause();
    incoming.off('data', onData).off('end', onEnd).off('error', onBroken).off('close', onBroken);
  }
}
