// Receives the body of a response from a connection that uses its buffers again.
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { ByteSource } from '../../content/byte-stream.ts';
import { joinBytes } from '../../oci/bytes.ts';

interface Receiver {
  readonly intercept: Dispatcher.DispatcherComposeInterceptor;
  /** What comes of the body from here on, and what the stream already has. Called once. */
  take(body: Readable): ByteSource;
}

interface PendingRead {
  readonly view: Uint8Array;
  readonly resolve: (bytes: number) => void;
  readonly reject: (error: unknown) => void;
}

const NOTHING = new Uint8Array(0);
/** So much is received before it is asked for: to pause within a read of the connection, such as for each small chunk, is expensive. */
const MAX_AHEAD_BYTES = 64 * 1024;
/** Each takes memory besides its bytes, which may be few. */
const MAX_AHEAD_CHUNKS = 256;

/** A body is a stream of copies until it is taken. `release` is called with each chunk that was copied. */
export function createReceiver(release: (chunk: Uint8Array) => void): Receiver {
  let controller: Dispatcher.DispatchController | undefined;
  let taken: Readable | undefined;
  let over: { readonly error?: unknown } | undefined;
  let pending: PendingRead | undefined;
  /** What no read has asked for yet, and what has come behind it. */
  let left: Uint8Array = NOTHING;
  let ahead: Uint8Array[] = [];
  let aheadBytes = 0;

  function receive(chunk: Uint8Array): void {
    // After a pause the parser may have none; a read of none would be the end.
    if (chunk.byteLength === 0) return;
    const bytes = pending ? copy(chunk, pending.view) : 0;
    pending?.resolve(bytes);
    pending = undefined;
    if (bytes === chunk.byteLength) return;
    // `slice` of a Buffer is no copy.
    ahead.push(new Uint8Array(chunk.subarray(bytes)));
    aheadBytes += chunk.byteLength - bytes;
    if (aheadBytes >= MAX_AHEAD_BYTES || ahead.length >= MAX_AHEAD_CHUNKS) controller?.pause();
  }

  function takeAhead(): void {
    const [first = NOTHING, ...others] = ahead;
    left = left.byteLength === 0 && others.length === 0 ? first : joinBytes([left, ...ahead]);
    ahead = [];
    aheadBytes = 0;
  }

  function end(how: { readonly error?: unknown }): void {
    over = how;
    if ('error' in how) pending?.reject(how.error);
    else pending?.resolve(0);
    pending = undefined;
  }

  function read(view: Uint8Array): Promise<number> {
    if (left.byteLength === 0) takeAhead();
    if (left.byteLength > 0) {
      const bytes = copy(left, view);
      left = left.subarray(bytes);
      return Promise.resolve(bytes);
    }
    if (over) return 'error' in over ? Promise.reject(over.error) : Promise.resolve(0);
    return new Promise((resolve, reject) => {
      pending = { view, resolve, reject };
      controller?.resume();
    });
  }

  return {
    intercept: dispatch => (options, handler) =>
      dispatch(options, {
        onRequestStart(started, context) {
          controller = started;
          handler.onRequestStart?.(started, context);
        },
        onResponseStart: (...start) => handler.onResponseStart?.(...start),
        onResponseData(on, chunk) {
          if (taken) receive(chunk);
          else handler.onResponseData?.(on, Buffer.from(chunk));
          release(chunk);
        },
        onResponseEnd(on, trailers) {
          end({});
          handler.onResponseEnd?.(on, trailers);
          // It closes when it is read to its end.
          taken?.resume();
        },
        onResponseError(on, error) {
          end({ error });
          handler.onResponseError?.(on, error);
        },
      }),
    take(body) {
      taken = body;
      // Reading also resumes the connection, which may have more at once: that goes behind. One read gives one chunk.
      const before: Uint8Array[] = [];
      for (let chunk = body.read(); chunk !== null; chunk = body.read()) before.push(chunk);
      left = joinBytes(before);
      if (over) body.resume();
      return {
        read,
        async close() {
          end({});
          body.on('error', () => {}).destroy();
        },
      };
    },
  };
}

/** As much as fits; returns how much. */
function copy(bytes: Uint8Array, view: Uint8Array): number {
  const part = bytes.subarray(0, view.byteLength);
  view.set(part);
  return part.byteLength;
}
