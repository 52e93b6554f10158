// Reading a file that another is still writing.
import type { ByteRange } from '../oci/range.ts';
import { type ByteSource, createByteStream, streamSource } from './byte-stream.ts';
import { readAt } from './file-stream.ts';
import { type GrowthSignal, readableEnd } from './growth.ts';
import type { SharedFile } from './shared-file.ts';
import { type Recover, StorageFailure } from './store.ts';

interface FollowOptions {
  readonly range?: ByteRange | undefined;
  readonly recover?: Recover | undefined;
  /** Called once, when it is read no more. */
  readonly onLeft: () => void;
}

/**
 * What `growth` allows to be read, as far as `range` goes. Fails when the growth does, unless `recover` has the rest. Releases `file` in the
 * end, however it comes.
 */
export function follow(
  file: SharedFile,
  growth: GrowthSignal,
  { range, recover, onLeft }: FollowOptions,
): ReadableStream<Uint8Array> {
  const limit = range ? range.end + 1 : Number.POSITIVE_INFINITY;
  let offset = range?.start ?? 0;
  let isClosed = false;
  let rest: ByteSource | undefined;
  // Acquired at once: the writer may be done, and the file closed, before the first read.
  const source = file.acquire();
  source.catch(() => {});

  async function readGrown(view: Uint8Array): Promise<number> {
    const end = await readableEnd(growth, offset, limit);
    if (offset >= end) return 0;
    const bytes = await readAt(await source, view.subarray(0, end - offset), offset);
    if (growth.current.state === 'failed') throw growth.current.error;
    offset += bytes;
    return bytes;
  }

  async function findRest(error: unknown): Promise<ByteSource> {
    if (!recover || !(error instanceof StorageFailure)) throw error;
    const found = streamSource(await recover({ start: offset, end: limit - 1 }));
    // Whoever read has left meanwhile.
    if (isClosed) await found.close();
    return found;
  }

  return createByteStream({
    async read(view) {
      if (rest) return rest.read(view);
      try {
        return await readGrown(view);
      } catch (error) {
        rest = await findRest(error);
        return rest.read(view);
      }
    },
    async close() {
      isClosed = true;
      onLeft();
      await Promise.all([rest?.close(), file.release()]);
    },
  });
}
