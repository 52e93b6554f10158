// Bodies as other rooms take them. One that is cut goes on where it stopped: the rest is asked for anew, by Range.
import type { Dispatcher } from 'undici';
import type { ByteRange } from '../oci/range.ts';
import { type Attempt, badAnswer, connectionFailure, isTimeout } from './failure.ts';
import { contentLength, discard, findCoding, strongEtag } from './response.ts';
import type { BlobBody } from './upstream.ts';

/** Something that can be read whole or in part, more than once. */
export interface BodySource {
  readonly attempt: Attempt;
  /** An answer of status 2xx to a request with these headers. The signal ends the request, and later the body. */
  readonly read: (headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<Dispatcher.ResponseData>;
  /** Whether its bytes are what its address says, which the reader verifies. All else goes on only with the same strong ETag. */
  readonly isContentAddressed: boolean;
  readonly range?: ByteRange | undefined;
  readonly signal?: AbortSignal | undefined;
}

const MAX_RESUMES = 5;

/**
 * Opens the source. Throws 502 where the answer is not of the range asked for, or encoded. The body fails with a RegistryError,
 * 504 for an upstream that hangs, or with the reason of the signal. The caller reads it to its end or cancels it.
 */
export async function openBody(source: BodySource): Promise<BlobBody> {
  const stop = new AbortController();
  const signal = source.signal ? AbortSignal.any([source.signal, stop.signal]) : stop.signal;
  const first = await openPart(source, source.range, { signal });
  const size = contentLength(first);
  const end = source.range?.end ?? (size === undefined ? undefined : size - 1);
  const etag = strongEtag(first.headers);
  const canResume = end !== undefined && (source.isContentAddressed || etag !== undefined);
  const start = source.range?.start ?? 0;
  const reopen: Reopen | undefined = canResume
    ? received => openPart(source, { start: start + received, end }, { signal, etag })
    : undefined;
  return { body: stream(first, { reopen, stop, source }), size };
}

/** Opens what comes after the bytes that were received. */
type Reopen = (received: number) => Promise<Dispatcher.ResponseData>;

interface PartOptions {
  readonly signal: AbortSignal;
  readonly etag?: string | undefined;
}

async function openPart(
  { read, attempt }: BodySource,
  range: ByteRange | undefined,
  { signal, etag }: PartOptions,
): Promise<Dispatcher.ResponseData> {
  const headers = { ...(range && { range: `bytes=${range.start}-${range.end}` }), ...(etag && { 'if-range': etag }) };
  const response = await read(headers, signal);
  const fault = isPart(response, range) ? findCoding(response) : 'it does not serve the range asked for';
  if (fault === undefined) return response;
  discard(response);
  throw badAnswer(attempt, fault);
}

function isPart({ statusCode, headers }: Dispatcher.ResponseData, range: ByteRange | undefined): boolean {
  if (!range) return statusCode === 200;
  return statusCode === 206 && `${headers['content-range']}`.startsWith(`bytes ${range.start}-${range.end}/`);
}

interface StreamOptions {
  readonly reopen: Reopen | undefined;
  readonly stop: AbortController;
  readonly source: BodySource;
}

function stream(first: Dispatcher.ResponseData, { reopen, stop, source }: StreamOptions): ReadableStream<Uint8Array> {
  let chunks: AsyncIterator<Uint8Array> = first.body[Symbol.asyncIterator]();
  let received = 0;
  let resumes = 0;

  async function next(): Promise<IteratorResult<Uint8Array>> {
    try {
      return await chunks.next();
    } catch (cause) {
      const canResume = reopen && resumes++ < MAX_RESUMES && !isTimeout(cause);
      const rest = canResume ? await reopen(received).catch(() => undefined) : undefined;
      source.signal?.throwIfAborted();
      // What went wrong first says more than why the rest could not be had.
      if (!rest) throw connectionFailure(cause, source.attempt);
      chunks = rest.body[Symbol.asyncIterator]();
      return next();
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await next();
        if (done) return controller.close();
        received += value.byteLength;
        controller.enqueue(value);
      },
      cancel: () => stop.abort(),
    },
    { highWaterMark: 0 },
  );
}
