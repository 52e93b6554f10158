// A blob from the first place that has it. Where that breaks off, the next one goes on; where it lied, it is not asked for the blob again.
import type { Memory } from '../memory.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { ByteRange } from '../oci/range.ts';
import { ContentMismatch, createVerifier } from '../oci/verify.ts';
import { badAnswer } from './failure.ts';
import type { BlobBody, Place } from './upstream.ts';

/** Which places have sent other bytes for a digest. */
interface Lies {
  has(place: Place, digest: Digest): boolean;
  add(place: Place, digest: Digest): void;
}

interface MirroredBlob {
  readonly digest: Digest;
  readonly range?: ByteRange | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly open: (place: Place, range: ByteRange | undefined) => Promise<BlobBody>;
  readonly lies: Lies;
}

export function createLies(memory: Memory): Lies {
  const kept = memory.openCache<true>();
  const keyOf = ({ name }: Place, digest: Digest) => `${name}@${digest}`;
  return {
    has: (place, digest) => kept.has(keyOf(place, digest)),
    add: (place, digest) => void kept.set(keyOf(place, digest), true),
  };
}

interface Opened extends BlobBody {
  readonly place: Place;
  /** Those that come after it. */
  readonly rest: readonly Place[];
}

/** Throws what the last place throws. The body is verified where it is the whole blob. */
export async function openFirst(places: readonly Place[], blob: MirroredBlob): Promise<BlobBody> {
  const opened = await open(places, blob, blob.range);
  return { body: stream(opened, blob), size: opened.size };
}

async function open(places: readonly Place[], blob: MirroredBlob, range: ByteRange | undefined): Promise<Opened> {
  const [place, ...rest] = places;
  if (!place) throw new RangeError('no place to open a blob from');
  try {
    return { ...(await blob.open(place, range)), place, rest };
  } catch (error) {
    blob.signal?.throwIfAborted();
    if (rest.length === 0 || !(error instanceof RegistryError)) throw error;
    return open(rest, blob, range);
  }
}

function stream(first: Opened, blob: MirroredBlob): ReadableStream<Uint8Array> {
  const { digest, range, signal, lies } = blob;
  const end = range?.end ?? (first.size === undefined ? undefined : first.size - 1);
  const verifier = range ? undefined : createVerifier({ digest });
  const used = new Set([first.place]);
  let { rest } = first;
  let reader = first.body.getReader();
  let position = range?.start ?? 0;

  async function next(): ReturnType<typeof reader.read> {
    try {
      return await reader.read();
    } catch (cause) {
      signal?.throwIfAborted();
      if (rest.length === 0 || end === undefined || position > end) throw cause;
      const more = await open(rest, blob, { start: position, end });
      used.add(more.place);
      rest = more.rest;
      reader = more.body.getReader();
      return next();
    }
  }

  function finish(): void {
    try {
      verifier?.finish();
    } catch (cause) {
      if (!(cause instanceof ContentMismatch)) throw cause;
      for (const place of used) lies.add(place, digest);
      const attempt = { upstream: first.place.name, action: `blobs/${digest}`, missing: 'BLOB_UNKNOWN' } as const;
      throw badAnswer(attempt, cause.message, cause);
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await next();
        if (done) {
          finish();
          return controller.close();
        }
        position += value.byteLength;
        verifier?.update(value);
        controller.enqueue(value);
      },
      cancel: reason => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
