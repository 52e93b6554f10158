// Limits on the work of one request and of all requests together: bytes held in memory, and bytes unpacked.
import { RegistryError } from '../oci/errors.ts';

/** A memory budget shared by many requests. */
export interface ByteBudget {
  open(): BudgetShare;
}

/** One request's share of it. */
export interface BudgetShare {
  /** Throws UNAVAILABLE when the budget cannot cover this many more bytes. */
  take(bytes: number): void;
  /** Releases the whole share. */
  close(): void;
}

const RETRY_AFTER_SECONDS = 2;
/** Reserved for small requests: large ones cannot take it. */
const RESERVED_FRACTION = 0.25;
const SMALL_BYTES = 1024 * 1024;

/** `what` names the content for the error message. Requests fail rather than wait: two that each held half would deadlock. */
export function createByteBudget(what: string, maxBytes: number): ByteBudget {
  let taken = 0;
  return {
    open() {
      let own = 0;
      return {
        take(bytes) {
          const limit = own + bytes > SMALL_BYTES ? maxBytes * (1 - RESERVED_FRACTION) : maxBytes;
          if (taken + bytes > limit) {
            throw new RegistryError('UNAVAILABLE', `the memory for ${what} is in use by other requests: try again`, {
              retryAfterSeconds: RETRY_AFTER_SECONDS,
            });
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

/** The work of one request. Long-running steps check it to stop when the client has left or the budget is spent. */
export interface Work {
  /** Aborts when the client leaves, or when the request times out. */
  readonly signal: AbortSignal;
  /** Counts unpacked layer bytes. Throws InvalidLayer beyond the limit per request. */
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

/** Takes turns at CPU-bound work, first come, first served. */
export interface Semaphore {
  /** Resolves with a function that ends the turn. Rejects with the signal's reason. */
  acquire(signal: AbortSignal | undefined): Promise<() => void>;
}

export function createSemaphore(max: number): Semaphore {
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
    async acquire(signal) {
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

/** The layer cannot be used: wrong claims, corrupt bytes, not a tar, too large, or an unsupported location. Free of secrets. */
export class InvalidLayer extends Error {
  override readonly name = 'InvalidLayer';
}
