// How much memory bodies take: those of requests that are read whole, and the buffers of those that are being sent. A few large buffers make
// one body fast; with many bodies at once the machine is busy anyway, and what counts is that memory does not follow their number. A client
// that takes its time needs no more than the smallest, and who is one of these shows only after some megabytes: so much the system takes at
// once for any client.
import { type BudgetShare, type ByteBudget, createByteBudget } from '../../augment/budget.ts';
import { RegistryError } from '../../oci/errors.ts';

/** Of one body that is being sent. */
export interface BufferShare {
  /** Whether the body may have two buffers: one is filled while the other is written. */
  readonly hasPair: boolean;
  /** The first buffer. */
  open(): ArrayBuffer;
  /** A buffer of the size that is right now: this one, which the client took in `tookMs` and which is not to be used any more, or a new one. */
  fit(buffer: ArrayBuffer, durationMs: number): ArrayBuffer;
  /** Called once, when the body needs no buffer any more. */
  leave(): void;
}

export interface SendBuffersOptions {
  /** What all bodies share, as far as `minBytes` allows. */
  readonly totalBytes?: number;
  /** What there is for them: of all that they share at most so much. */
  readonly spareBytes?: number;
  /** Smaller buffers cost more processor time than they save memory. */
  readonly minBytes?: number;
  /** Larger ones make nothing faster. */
  readonly maxBytes?: number;
}

/** A client that takes a buffer sooner waits for us. */
const QUICK_MS = 100;
/** A buffer may be such a part of what its client has taken without a pause. */
const PART = 1 / 128;

/** Sizes are powers of two, so that a body changes its buffers seldom while others come and go. */
export function createSendBuffers({
  totalBytes: wantedBytes = 64 * 1024 * 1024,
  spareBytes = Number.POSITIVE_INFINITY,
  minBytes = 64 * 1024,
  maxBytes = 512 * 1024,
}: SendBuffersOptions = {}): () => BufferShare {
  const totalBytes = Math.min(wantedBytes, spareBytes);
  let bodies = 0;

  const size = (bytes: number) => Math.min(maxBytes, Math.max(minBytes, 2 ** Math.floor(Math.log2(bytes))));

  return () => {
    bodies += 1;
    let quickBytes = 0;
    const ownBytes = () => size(Math.min(totalBytes / bodies, quickBytes * PART));
    return {
      get hasPair() {
        return ownBytes() === maxBytes && totalBytes >= bodies * 2 * maxBytes;
      },
      open: () => new ArrayBuffer(ownBytes()),
      fit(buffer, durationMs) {
        quickBytes = durationMs < QUICK_MS ? quickBytes + buffer.byteLength : 0;
        const bytes = ownBytes();
        // What is left of it is free at once, and not when the garbage is collected next.
        return buffer.byteLength === bytes ? buffer : buffer.transfer(bytes);
      },
      leave() {
        bodies -= 1;
      },
    };
  };
}

/** So many of the largest may be here at once, but for what is kept free. */
const MAX_LARGEST = 4;
/** Of a budget, one body may have all but what is kept free in it. */
const ROOM_FOR_LARGEST = 4 / 3;

/** At most `spareBytes`, but room for one of the largest. */
export function createBodyBudget(largestBytes: number, spareBytes: number): ByteBudget {
  const most = Math.min(largestBytes * MAX_LARGEST, spareBytes);
  return createByteBudget('the requests', Math.max(most, largestBytes * ROOM_FOR_LARGEST));
}

/** Why there is no room for so many more bytes. Who is refused leaves his room to others at once. */
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
