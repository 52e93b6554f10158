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
