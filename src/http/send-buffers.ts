// How much memory the bodies that are being sent take for their buffers. A few large buffers make one body fast; with many bodies at once the
// machine is busy anyway, and what counts is that memory does not follow their number.

/** Of one body that is being sent. */
export interface BufferShare {
  /** Whether the body may have two buffers: one is filled while the other is written. */
  readonly hasPair: boolean;
  /** A buffer of the size that is right now: this one, which is not to be used any more, or a new one. */
  fit(buffer?: ArrayBuffer): ArrayBuffer;
  /** Called once, when the body needs no buffer any more. */
  leave(): void;
}

export interface SendBuffersOptions {
  /** What all bodies share, as far as `minBytes` allows. */
  readonly totalBytes?: number;
  /** Smaller buffers cost more processor time than they save memory. */
  readonly minBytes?: number;
  /** Larger ones make nothing faster. */
  readonly maxBytes?: number;
}

/** Sizes are powers of two, so that a body changes its buffers seldom while others come and go. */
export function createSendBuffers({
  totalBytes = 64 * 1024 * 1024,
  minBytes = 64 * 1024,
  maxBytes = 512 * 1024,
}: SendBuffersOptions = {}): () => BufferShare {
  let bodies = 0;

  const hasPair = () => totalBytes >= bodies * 2 * maxBytes;

  function size(): number {
    const share = 2 ** Math.floor(Math.log2(totalBytes / bodies));
    return Math.min(maxBytes, Math.max(minBytes, share));
  }

  return () => {
    bodies += 1;
    return {
      get hasPair() {
        return hasPair();
      },
      fit(buffer = new ArrayBuffer(0)) {
        const bytes = size();
        // What is left of it is free at once, and not when the garbage is collected next.
        return buffer.byteLength === bytes ? buffer : buffer.transfer(bytes);
      },
      leave() {
        bodies -= 1;
      },
    };
  };
}
