// Reading a file that another is still writing.
import type { ByteRange } from '../oci/range.ts';
import { createByteStream } from './byte-stream.ts';
import { readAt } from './file-stream.ts';
import { type GrowthSignal, readableEnd } from './growth.ts';
import type { SharedFile } from './shared-file.ts';

/** What `growth` allows to be read, as far as `range` goes. Fails when the growth does. Releases `file` in the end, however it comes. */
export function follow(
  file: SharedFile,
  growth: GrowthSignal,
  range: ByteRange | undefined,
): ReadableStream<Uint8Array> {
  const limit = range ? range.end + 1 : Number.POSITIVE_INFINITY;
  let offset = range?.start ?? 0;
  // Acquired at once: the writer may be done, and the file closed, before the first read.
  const source = file.acquire();
  source.catch(() => {});
  return createByteStream({
    async read(view) {
      const end = await readableEnd(growth, offset, limit);
      if (offset >= end) return 0;
      const bytes = await readAt(await source, view.subarray(0, end - offset), offset);
      if (growth.current.state === 'failed') throw growth.current.error;
      offset += bytes;
      return bytes;
    },
    close: () => file.release(),
  });
}
