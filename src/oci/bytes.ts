// Bytes that are kept: in memory of their own, which is as large as they are.

/**
 * The chunks as one. Node makes small buffers out of a pool and reads sockets into large ones, and a slice of such keeps all of it: what goes
 * into a cache or a record is copied first.
 */
export function joinBytes(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(chunks.reduce((size, { byteLength }) => size + byteLength, 0));
  let offset = 0;
  for (const chunk of chunks) {
    joined.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return joined;
}
