// What a request carries: a chunk of an upload as it streams, or a small body whole.

import type { Context } from 'hono';
import type { Chunk } from '../hosted/hosted.ts';
import { joinBytes } from '../oci/bytes.ts';
import { RegistryError } from '../oci/errors.ts';
import type { ByteRange } from '../oci/range.ts';

/** The body and the range it promises; undefined where the request has no body. Throws RANGE_INVALID or SIZE_INVALID. */
export function chunkOf(c: Context): Chunk | undefined {
  const range = parseContentRange(c.req.header('Content-Range'));
  const length = c.req.header('Content-Length');
  if (range && length !== undefined && Number(length) !== range.end - range.start + 1) {
    throw new RegistryError('SIZE_INVALID', `Content-Range is of another length than the Content-Length ${length}`);
  }
  const { body } = c.req.raw;
  const size = length === undefined ? undefined : Number(length);
  return body && length !== '0' ? { body, range, size } : undefined;
}

/** Digits on both ends, inclusive: distribution-spec "Pushing a blob in chunks". */
function parseContentRange(header: string | undefined): ByteRange | undefined {
  if (header === undefined) return undefined;
  const [, start, end] = /^(\d{1,15})-(\d{1,15})$/.exec(header) ?? [];
  if (start !== undefined && end !== undefined && Number(start) <= Number(end)) {
    return { start: Number(start), end: Number(end) };
  }
  throw new RegistryError('RANGE_INVALID', `Content-Range is "${header.slice(0, 60)}": expected <first>-<last>`);
}

/** How much of a body that is too large is read all the same: many clients hear an answer only when they have sent everything. */
const MAX_REFUSED_BYTES = 64 * 1024 * 1024;

/** The whole body. Throws SIZE_INVALID (413) for more than `maxBytes`, of which no more are held. */
export async function readBody(c: Context, maxBytes: number): Promise<Uint8Array> {
  if (Number(c.req.header('Content-Length') ?? 0) > MAX_REFUSED_BYTES) throw tooLarge(maxBytes);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    size += chunk.byteLength;
    if (size <= maxBytes) chunks.push(chunk);
    if (size > MAX_REFUSED_BYTES) break;
  }
  if (size > maxBytes) throw tooLarge(maxBytes);
  return joinBytes(chunks);
}

function tooLarge(maxBytes: number): RegistryError {
  return new RegistryError('SIZE_INVALID', `the body is larger than ${maxBytes} bytes`, { status: 413 });
}
