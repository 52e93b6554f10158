// A body on its way from an upstream to one client, verified but kept nowhere: what is left when the store cannot keep it.
import type { ByteRange } from '../../oci/range.ts';
import { createVerifier, type Expected } from '../../oci/verify.ts';

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
