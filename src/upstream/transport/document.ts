// Documents of upstreams, which are read whole: many at once, but few that are large, as each is in memory until it is kept and sent on.
import pLimit from 'p-limit';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.ts';
import { readLimited } from '../failure.ts';

/** The whole body, of at most MAX_MANIFEST_BYTES; of a large one the rest comes when it has its turn. Throws TooLong. */
export type ReadDocument = (body: AsyncIterable<Uint8Array>) => Promise<Uint8Array>;

/** What nearly all documents have is far less. */
const LITTLE_BYTES = 512 * 1024;
const MAX_LARGE = 2;

export function createReadDocument(): ReadDocument {
  const turns = pLimit(MAX_LARGE);

  return async body => {
    const ended = Promise.withResolvers<void>();
    let turn: Promise<void> | undefined;

    async function* inTurn(): AsyncGenerator<Uint8Array> {
      let size = 0;
      for await (const chunk of body) {
        size += chunk.byteLength;
        if (size > LITTLE_BYTES) {
          turn ??= new Promise(begin => {
            void turns(() => {
              begin();
              return ended.promise;
            });
          });
          await turn;
        }
        yield chunk;
      }
    }

    try {
      return await readLimited(inTurn(), MAX_MANIFEST_BYTES);
    } finally {
      ended.resolve();
    }
  };
}
