// Reads bodies to their end, of layers and build contexts: through one buffer where the chunks are not kept, and until a signal aborts.

export interface ReadOptions {
  /** Ends the reading. */
  readonly signal?: AbortSignal | undefined;
  /** Whether the buffer of a chunk is filled again once the next one is requested. Default: no. */
  readonly reusesBuffer?: boolean;
}

type BodyReader = Pick<ReadableStreamDefaultReader<Uint8Array>, 'read' | 'cancel'>;

/** Reads a body to its end and discards it, or cancels it. Throws the body's error, or the signal's reason. */
export async function drainBody(body: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
  const reader = openReader(body, { signal, reusesBuffer: true });
  try {
    while (!(await reader.read()).done);
  } finally {
    cancelReader(reader, signal.reason);
  }
}

/** Its `read` throws the signal's reason. The caller reads to the end, or cancels: also a body that broke, or whose signal aborted. */
export function openReader(body: ReadableStream<Uint8Array>, { signal, reusesBuffer }: ReadOptions): BodyReader {
  const reader: BodyReader = (reusesBuffer && openRefilling(body)) || body.getReader();
  const stop = () => cancelReader(reader, signal?.reason);
  signal?.addEventListener('abort', stop, { once: true });
  return {
    async read() {
      signal?.throwIfAborted();
      const next = await reader.read();
      // A cancelled body looks like a finished one.
      signal?.throwIfAborted();
      if (next.done) signal?.removeEventListener('abort', stop);
      return next;
    },
    cancel(reason) {
      signal?.removeEventListener('abort', stop);
      return reader.cancel(reason);
    },
  };
}

const REFILLED_BYTES = 256 * 1024;

/**
 * One buffer for all chunks: with one for each, V8 would look for garbage in the whole heap every few megabytes. Undefined where the body
 * brings its own.
 */
function openRefilling(body: ReadableStream<Uint8Array>): BodyReader | undefined {
  const reader = openByob(body);
  if (!reader) return undefined;
  let buffer = new ArrayBuffer(REFILLED_BYTES);
  return {
    async read() {
      const next = await reader.read(new Uint8Array(buffer));
      if (next.done) return { done: true, value: undefined };
      buffer = next.value.buffer;
      return next;
    },
    cancel: reason => reader.cancel(reason),
  };
}

function openByob(body: ReadableStream<Uint8Array>): ReadableStreamBYOBReader | undefined {
  try {
    return body.getReader({ mode: 'byob' });
  } catch (error) {
    // Not a byte stream.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Has no effect on a finished body; the error of a broken one was thrown by its read. */
export function cancelReader(reader: BodyReader, reason?: unknown): void {
  reader.cancel(reason).catch(() => {});
}
