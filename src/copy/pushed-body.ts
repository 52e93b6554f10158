// The body of a blob on its way into a repository: verified, and what broke it remembered, for who takes it sees only that it broke.

import { passThrough } from '../cache/read-through/pass-through.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';
import type { PushedBlob } from '../upstream/pusher.ts';

export type Open = PushedBlob['open'];

/**
 * Runs `push` with a body that can be opened again and again. Where the source of the bytes failed, its error is thrown, and DIGEST_INVALID
 * for bytes that do not fit the descriptor; else what `push` throws.
 */
export async function pushBody(
  { digest, size }: Pick<ContentDescriptor, 'digest' | 'size'>,
  open: Open,
  push: (open: Open) => Promise<void>,
): Promise<void> {
  let failed: { readonly cause: unknown } | undefined;
  const noting = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      failed = { cause };
      throw cause;
    }
  };
  try {
    await push(async () => {
      failed = undefined;
      const source = passThrough(await noting(open), { digest, size });
      return noteFailure(source, noting);
    });
  } catch (error) {
    throw failed ? asRegistryError(failed.cause) : error;
  }
}

function noteFailure(
  source: ReadableStream<Uint8Array>,
  noting: <T>(work: () => Promise<T>) => Promise<T>,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await noting(() => reader.read());
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: reason => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

function asRegistryError(cause: unknown): unknown {
  if (!(cause instanceof ContentMismatch)) return cause;
  return new RegistryError('DIGEST_INVALID', `the blob is not what its digest says: ${cause.message}`, { cause });
}
