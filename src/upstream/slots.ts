// Calls that are under way at a time: the others wait in line, and where that is full, they are refused.
import PQueue from 'p-queue';
import { RegistryError } from '../oci/errors.ts';

interface SlotsOptions {
  /** The upstream, for messages. */
  readonly name: string;
  readonly concurrency: number;
  /** How many may wait. */
  readonly maxWaiting: number;
}

/** Gives a slot, which the caller frees. Throws UNAVAILABLE, with its Retry-After, for one too many, or the signal's reason. */
export type TakeSlot = (signal?: AbortSignal) => Promise<() => void>;

const RETRY_AFTER_SECONDS = 5;

export function createSlots({ name, concurrency, maxWaiting }: SlotsOptions): TakeSlot {
  const queue = new PQueue({ concurrency });
  return async signal => {
    if (queue.pending >= concurrency && queue.size >= maxWaiting) {
      const reason = `${concurrency} calls are under way, and ${queue.size} wait`;
      throw new RegistryError('UNAVAILABLE', `${name}: ${reason}`, { retryAfterSeconds: RETRY_AFTER_SECONDS });
    }
    const slot = Promise.withResolvers<() => void>();
    queue.add(() => new Promise<void>(free => slot.resolve(free)), { ...(signal && { signal }) }).catch(slot.reject);
    return slot.promise;
  };
}

/** The body, which frees the slot when it is over, however it ends. */
export function freeingAtEnd(body: ReadableStream<Uint8Array>, free: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) return controller.enqueue(value);
          free();
          controller.close();
        } catch (error) {
          free();
          throw error;
        }
      },
      async cancel(reason) {
        free();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
