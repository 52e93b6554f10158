// Reads documents of upstreams whole: many at once, but few large ones, as each is in memory until it is stored and sent.
import pLimit from 'p-limit';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.ts';
import { readLimited } from '../failure.ts';

/** The whole body, of at most MAX_MANIFEST_BYTES; the rest of a large one waits until fewer others are in progress. Throws TooLong. */
export type ReadDocument = (body: AsyncIterable<Uint8Array>) => Promise<Uint8Array>;

/** Almost all documents are far smaller. */
const SMALL_BYTES = 512 * 1024;
const MAX_LARGE = 2;

export function createReadDocument(): ReadDocument {
  const limit = pLimit(MAX_LARGE);

  return async body => {
    const ended = Promise.withResolvers<void>();
    let acquired: Promise<void> | undefined;

    async function* limited(): AsyncGenerator<Uint8Array> {
      let size = 0;
      for await (const chunk of body) {
        size += chunk.byteLength;
        if (size > SMALL_BYTES) {
          acquired ??= new Promise(begin => {
            void limit(() => {
              begin();
              return ended.promise;
            });
          });
          await acquired;
        }
        yield chunk;
      }
    }

    try {
      return await readLimited(limited(), MAX_MANIFEST_BYTES);
    } finally {
      ended.resolve();
    }
  };
}
