// How the documents of an image are read: its manifests and image configs, from the repository that it is in, within a budget for each image
// and, where many are in memory at once, for the whole process.
import pLimit from 'p-limit';
import type { SourceReader } from '../augment/source.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { untilAborted } from '../upstream/waiting.ts';
import type { Origin } from './origin.ts';

/** Of all documents of one image, as they are: what their descriptors say of them may be wrong. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024;
const MAX_READS = 16;

/** Its functions throw what the registry throws, or the reason of the signal: a document that is on its way then comes for the store alone. */
export function createReader(
  { registry, repository }: Origin,
  {
    onRead,
    signal,
  }: {
    /** Hears of all that is read. */
    readonly onRead?: ((digest: Digest) => void) | undefined;
    readonly signal?: AbortSignal | undefined;
  } = {},
): SourceReader {
  async function read<T>(digest: Digest, get: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    onRead?.(digest);
    return signal ? untilAborted(get(), signal) : get();
  }

  return withinBudget({
    readManifest: ({ digest }) => read(digest, () => registry.getManifest(repository, digest)),
    readConfig: descriptor => read(descriptor.digest, () => registry.readConfig(repository, descriptor)),
  });
}

/** The same reader for one image: throws MANIFEST_INVALID for more bytes than an image may have in documents, and reads few at a time. */
export function withinBudget(reader: SourceReader): SourceReader {
  const limit = pLimit(MAX_READS);
  let bytes = 0;
  return eachRead(reader, ({ size }, read) =>
    limit(async () => {
      requireRoom(bytes + size);
      const { found, actual } = await read();
      bytes += actual;
      requireRoom(bytes);
      return found;
    }),
  );
}

function requireRoom(bytes: number): void {
  if (bytes <= MAX_TOTAL_BYTES) return;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `invalid image: it is larger than ${MAX_TOTAL_BYTES} bytes with all its manifests and configs`,
  );
}

/** Keeps the documents that a process has in memory few: an image of many bytes waits for its turn, and small ones pass by. */
interface DocumentTurns {
  /** Does the work with the reader. All that it reads counts as held until the work has ended. */
  hold<T>(reader: SourceReader, work: (reader: SourceReader) => Promise<T>): Promise<T>;
}

/** What nearly all images have in documents is far less. */
const FREE_BYTES = 2 * 1024 * 1024;
const MAX_LARGE = 2;

export function createDocumentTurns({ freeBytes = FREE_BYTES, maxLarge = MAX_LARGE } = {}): DocumentTurns {
  const turns = pLimit(maxLarge);

  return {
    async hold(reader, work) {
      const ended = Promise.withResolvers<void>();
      let bytes = 0;
      let turn: Promise<void> | undefined;

      /** One turn for all of the work: who holds one waits for no other. */
      async function add(count: number): Promise<void> {
        bytes += count;
        if (bytes <= freeBytes) return;
        turn ??= new Promise(resolve => {
          void turns(() => {
            resolve();
            return ended.promise;
          });
        });
        await turn;
      }

      try {
        return await work(
          eachRead(reader, async ({ size }, read) => {
            await add(size);
            const { found, actual } = await read();
            await add(Math.max(0, actual - size));
            return found;
          }),
        );
      } finally {
        ended.resolve();
      }
    },
  };
}

type Around = <T>(
  descriptor: ContentDescriptor,
  read: () => Promise<{ readonly found: T; readonly actual: number }>,
) => Promise<T>;

/** The reader with something around each of its reads, which tell how many bytes there were. */
function eachRead(reader: SourceReader, around: Around): SourceReader {
  return {
    readManifest: descriptor =>
      around(descriptor, async () => {
        const found = await reader.readManifest(descriptor);
        return { found, actual: found.raw.byteLength };
      }),
    readConfig: descriptor =>
      around(descriptor, async () => {
        const found = await reader.readConfig(descriptor);
        return { found, actual: found.byteLength };
      }),
  };
}
