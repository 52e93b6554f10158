// What the work of one request may cost, and that of all together: bytes that are in memory at once, and bytes that are unpacked.
import { RegistryError } from '../oci/errors.ts';

/** Bytes in memory that many share. */
export interface ByteBudget {
  open(): Room;
}

/** What one of them has of it. */
export interface Room {
  /** Throws UNAVAILABLE where there is no room for so many more. */
  take(bytes: number): void;
  /** Gives all back. */
  close(): void;
}

const RETRY_AFTER_SECONDS = 2;
/** What remains for those who need little: nobody who has more takes of it. */
const KEPT_FREE = 0.25;
const LITTLE_BYTES = 1024 * 1024;

/** `what` is what the bytes are of, for the message. Nobody waits: two who did, each with a half, would wait for each other. */
export function createByteBudget(what: string, maxBytes: number): ByteBudget {
  let taken = 0;
  return {
    open() {
      let own = 0;
      return {
        take(bytes) {
          const limit = own + bytes > LITTLE_BYTES ? maxBytes * (1 - KEPT_FREE) : maxBytes;
          if (taken + bytes > limit) {
            throw new RegistryError(
              'UNAVAILABLE',
              `${what} of others take all the memory that there is for them: try again`,
              {
                retryAfterSeconds: RETRY_AFTER_SECONDS,
              },
            );
          }
          taken += bytes;
          own += bytes;
        },
        close() {
          taken -= own;
          own = 0;
        },
      };
    },
  };
}

/** The work of one request. What takes long in it asks on its way whether it is still wanted, and may cost more. */
export interface Work {
  /** Aborts when the client has left, or when the request has had its time. */
  readonly signal: AbortSignal;
  /** Counts what layers unpack to. Throws InvalidLayer where it is more than one request may have. */
  unpacked(bytes: number): void;
}

export function createWork(signal: AbortSignal, maxUnpackedBytes: number): Work {
  let total = 0;
  return {
    signal,
    unpacked(bytes) {
      total += bytes;
      if (total <= maxUnpackedBytes) return;
      throw new InvalidLayer(
        `layer: all layers of a request together unpack to more than the limit of ${maxUnpackedBytes} bytes`,
      );
    },
  };
}

/** Turns at what takes the processor, in the order in which they were asked for. */
export interface Turns {
  /** Gives what ends the turn. Rejects with the signal's reason. */
  take(signal: AbortSignal | undefined): Promise<() => void>;
}

export function createTurns(max: number): Turns {
  const waiting = new Set<() => void>();
  let free = max;

  function end(): void {
    const [next] = waiting;
    if (!next) {
      free += 1;
      return;
    }
    waiting.delete(next);
    next();
  }

  return {
    async take(signal) {
      signal?.throwIfAborted();
      if (free > 0) {
        free -= 1;
        return end;
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const leave = () => {
        if (waiting.delete(resolve)) reject(signal?.reason);
      };
      waiting.add(resolve);
      signal?.addEventListener('abort', leave, { once: true });
      await promise.finally(() => signal?.removeEventListener('abort', leave));
      return end;
    },
  };
}

/** It cannot be used as given: wrong claims, broken bytes, no tar, too large, or a location that we do not take. Free of secrets. */
export class InvalidLayer extends Error {
  override readonly name = 'InvalidLayer';
}
