// The pieces of a chunk as they come from a client: no more of them than it promised.
import { RegistryError } from '../oci/errors.ts';
import type { ByteRange } from '../oci/range.ts';
import type { Chunk } from './hosted.ts';

/** Ends with SIZE_INVALID where the body is longer or shorter than its range. Leaves the body unlocked and uncancelled in any case. */
export function piecesOf({ body, range }: Chunk): AsyncGenerator<Uint8Array> {
  return range ? checkSize(read(body), range) : read(body);
}

async function* checkSize(pieces: AsyncGenerator<Uint8Array>, range: ByteRange): AsyncGenerator<Uint8Array> {
  const promised = range.end - range.start + 1;
  let size = 0;
  for await (const piece of pieces) {
    size += piece.byteLength;
    if (size > promised) throw wrongSize(`more than ${promised}`, range);
    yield piece;
  }
  if (size < promised) throw wrongSize(`${size}`, range);
}

async function* read(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(brokenOff);
      if (done) return;
      yield value;
    }
  } finally {
    reader.releaseLock();
  }
}

function brokenOff(cause: unknown): never {
  throw new RegistryError('BLOB_UPLOAD_INVALID', 'the body broke off: ask for the status of the upload and go on', {
    cause,
  });
}

function wrongSize(found: string, { start, end }: ByteRange): RegistryError {
  return new RegistryError('SIZE_INVALID', `the body has ${found} bytes, and its Content-Range is ${start}-${end}`);
}
