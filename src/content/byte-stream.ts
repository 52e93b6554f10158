// A source of bytes as a byte stream: a reader who brings his buffer again and again gets a large body without a new one for each chunk.

export interface ByteSource {
  /** Writes the next bytes, at least one, to the start of `view`, and gives their number; 0 at the end. Calls do not overlap. */
  read(view: Uint8Array): Promise<number>;
  /** Called once: at the end, after an error, or on cancel, where a `read` may still be under way. */
  close(): Promise<void>;
}

/** What a reader without a buffer of his own gets at once. */
const CHUNK_BYTES = 256 * 1024;

export function createByteStream({ read, close }: ByteSource): ReadableStream<Uint8Array> {
  let isOver = false;

  async function leave(): Promise<void> {
    if (isOver) return;
    isOver = true;
    await close();
  }

  return new ReadableStream({
    type: 'bytes',
    autoAllocateChunkSize: CHUNK_BYTES,
    async pull(controller) {
      const request = controller.byobRequest;
      if (!request?.view) throw new TypeError('a byte stream that allocates is pulled with a view');
      const { buffer, byteOffset, byteLength } = request.view;
      const bytes = await read(new Uint8Array(buffer, byteOffset, byteLength)).catch(async error => {
        await leave();
        throw error;
      });
      if (isOver) return;
      if (bytes === 0) {
        await leave();
        controller.close();
      }
      request.respond(bytes);
    },
    cancel: leave,
  });
}

/** Chunks as a source: what of one does not fit is given with the next read. Closing it cancels the stream. */
export function streamSource(stream: ReadableStream<Uint8Array>): ByteSource {
  const reader = stream.getReader();
  let left: Uint8Array = new Uint8Array(0);
  return {
    async read(view) {
      while (left.byteLength === 0) {
        const { done, value } = await reader.read();
        if (done) return 0;
        left = value;
      }
      const part = left.subarray(0, view.byteLength);
      view.set(part);
      left = left.subarray(part.byteLength);
      return part.byteLength;
    },
    // That of a stream which has broken fails with its error, which the reader has.
    close: () => reader.cancel().catch(() => {}),
  };
}
