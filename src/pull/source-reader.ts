// Reads the documents of an image, its manifests and configs, from its repository, within a budget for each image and for the whole
// process.
import pLimit from 'p-limit';
import type { SourceReader } from '../augment/source.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { untilAborted } from '../upstream/waiting.ts';
import type { Origin } from './origin.ts';

/** Limit for all documents of one image, by actual size: descriptors may be wrong. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024;
const MAX_READS = 16;

/**
 * Its functions throw what the registry throws, or the reason of the signal: a document already being fetched then only goes to the store.
 */
export function createReader(
  { registry, repository }: Origin,
  {
    onRead,
    signal,
  }: {
    /** Called with everything that is read. */
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

/** The same reader limited to one image: throws MANIFEST_INVALID beyond the limit for its documents, and reads few at a time. */
export function withinBudget(reader: SourceReader): SourceReader {
  const limit = pLimit(MAX_READS);
  let bytes = 0;
  return eachRead(reader, ({ size }, read) =>
    limit(async () => {
      checkTotal(bytes + size);
      const { found, actual } = await read();
      bytes += actual;
      checkTotal(bytes);
      return found;
    }),
  );
}

function checkTotal(bytes: number): void {
  if (bytes <= MAX_TOTAL_BYTES) return;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `invalid image: it is larger than ${MAX_TOTAL_BYTES} bytes with all its manifests and configs`,
  );
}

/** Limits the documents in memory of the process: large images are read one after another, and small ones bypass the queue. */
interface DocumentLimit {
  /** Runs the work with the reader. Everything that it reads counts as in memory until the work has ended. */
  run<T>(reader: SourceReader, work: (reader: SourceReader) => Promise<T>): Promise<T>;
}

/** Almost all images have far less in documents. */
const FREE_BYTES = 2 * 1024 * 1024;
const MAX_LARGE = 2;

export function createDocumentLimit({ freeBytes = FREE_BYTES, maxLarge = MAX_LARGE } = {}): DocumentLimit {
  const limit = pLimit(maxLarge);

  return {
    async run(reader, work) {
      const ended = Promise.withResolvers<void>();
      let bytes = 0;
      let acquired: Promise<void> | undefined;

      /** Acquired once for the whole work, so that a holder never waits for another. */
      async function add(count: number): Promise<void> {
        bytes += count;
        if (bytes <= freeBytes) return;
        acquired ??= new Promise(resolve => {
          void limit(() => {
            resolve();
            return ended.promise;
          });
        });
        await acquired;
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

type WrapRead = <T>(
  descriptor: ContentDescriptor,
  read: () => Promise<{ readonly found: T; readonly actual: number }>,
) => Promise<T>;

/** The reader with a wrapper around each read, which is given the size. */
function eachRead(reader: SourceReader, wrap: WrapRead): SourceReader {
  return {
    readManifest: descriptor =>
      wrap(descriptor, async () => {
        const found = await reader.readManifest(descriptor);
        return { found, actual: found.raw.byteLength };
      }),
    readConfig: descriptor =>
      wrap(descriptor, async () => {
        const found = await reader.readConfig(descriptor);
        return { found, actual: found.byteLength };
      }),
  };
}
