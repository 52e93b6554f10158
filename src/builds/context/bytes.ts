// Streams of libraries whose types do not say that they carry bytes.

/** Throws TypeError for a chunk that is something else. */
export async function* bytesOf(stream: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('a stream of bytes gave something else');
    yield chunk;
  }
}
