// Response bodies as streams that resume: a broken transfer is continued by Range.
import type { Dispatcher } from 'undici';
import { type ByteSource, createByteStream } from '../../content/byte-stream.ts';
import type { ByteRange } from '../../oci/bytes.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { ContentMismatch, createVerifier } from '../../oci/verify.ts';
import { badAnswer, connectionFailure, isTimeout, Outage, type RequestContext } from '../failure.ts';
import type { BlobBody } from '../upstream.ts';
import { type Answer, contentLength, discard, encodedFault, findCoding, singleHeader, strongEtag } from './response.ts';

/** Something that can be read whole or in part, repeatedly. */
interface BodySource {
  readonly attempt: RequestContext;
  /** An answer with status 2xx to a request with these headers. The signal ends the request, and later the body. */
  readonly read: (headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<Answer>;
  /** The digest of its bytes, verified by the reader. Without one, only the same strong ETag allows resuming. */
  readonly digest?: Digest | undefined;
  readonly range?: ByteRange | undefined;
  readonly signal?: AbortSignal | undefined;
}

const MAX_RESUMES = 5;
/** Encoded bodies up to this size are detected before their reader gets the response. */
const MAX_INSPECTED = 256 * 1024;

/**
 * Opens the source. Throws 502 where the answer is not the requested range, or is encoded. The body fails with a RegistryError, 504 for an
 * upstream that hangs, or with the reason of the signal. The caller reads it to its end or cancels it.
 */
export async function openBody(source: BodySource): Promise<BlobBody> {
  const stop = new AbortController();
  const signal = source.signal ? AbortSignal.any([source.signal, stop.signal]) : stop.signal;
  const first = await openPart(source, source.range, { signal });
  const { size, coding } = first;
  const end = source.range?.end ?? (size === undefined ? undefined : size - 1);
  const { etag } = first;
  const canResume = end !== undefined && (source.digest !== undefined || etag !== undefined);
  const start = source.range?.start ?? 0;
  const reopen: Reopen | undefined = canResume
    ? received => resume(source, { start: start + received, end }, { signal, etag })
    : undefined;
  const body = stream(first.content, { reopen, stop, source });
  if (coding === undefined || source.digest === undefined || source.range) return { body, size, coding };
  const verified = verify(body, source.digest, badAnswer(source.attempt, encodedFault(coding)));
  return { body: await inspect(verified), size, coding };
}

/** Opens the rest after the received bytes. */
type Reopen = (received: number) => Promise<Part>;

interface Part {
  readonly content: ByteSource;
  /** In bytes; undefined where the upstream does not report it. */
  readonly size: number | undefined;
  readonly etag: string | undefined;
  readonly coding: string | undefined;
}

async function openPart(
  { read, attempt, digest }: BodySource,
  range: ByteRange | undefined,
  { signal, etag }: { readonly signal: AbortSignal; readonly etag?: string | undefined },
): Promise<Part> {
  const headers = { ...(range && { range: `bytes=${range.start}-${range.end}` }), ...(etag && { 'if-range': etag }) };
  const response = await read(headers, signal);
  const properties = {
    etag: strongEtag(response.headers),
    coding: findCoding(response.headers),
    size: contentLength(response),
  };
  if (range ? isPart(response, range) : isWhole(response)) {
    return { ...properties, content: response.takeContent() };
  }
  // Many servers ignore a Range and send everything. Content with a digest is the same again; otherwise its ETag must match.
  const isSame = digest !== undefined || (etag !== undefined && properties.etag === etag);
  if (range && isWhole(response) && isSame && hasPart(properties, range)) {
    return {
      ...properties,
      content: cut(response.takeContent(), range),
      size: range.end - range.start + 1,
    };
  }
  discard(response);
  throw badAnswer(attempt, 'it does not serve the range asked for');
}

/** As far as its size is known. */
function hasPart({ size }: Pick<Part, 'size'>, { end }: ByteRange): boolean {
  return size === undefined || size > end;
}

/** A server that refuses the Range, or answers another one, may send the whole: content with a digest is the same again. */
async function resume(
  source: BodySource,
  range: ByteRange,
  options: { readonly signal: AbortSignal; readonly etag?: string | undefined },
): Promise<Part> {
  try {
    return await openPart(source, range, options);
  } catch (error) {
    if (source.digest === undefined || !isRefusal(error)) throw error;
    const whole = await openPart(source, undefined, { signal: options.signal });
    if (hasPart(whole, range)) return { ...whole, content: cut(whole.content, range) };
    await whole.content.close();
    throw error;
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof RegistryError && !(error instanceof Outage) && error.code !== 'TOOMANYREQUESTS';
}

/** A proxy that changed something may send 203. */
function isWhole({ statusCode, headers }: Dispatcher.ResponseData): boolean {
  return statusCode !== 206 && headers['content-range'] === undefined;
}

function isPart({ statusCode, headers }: Dispatcher.ResponseData, range: ByteRange): boolean {
  const served = singleHeader(headers, 'content-range')?.toLowerCase() ?? '';
  return statusCode === 206 && served.startsWith(`bytes ${range.start}-${range.end}/`);
}

const SKIPPED_BYTES = 64 * 1024;

/** The range within the whole. */
function cut({ read, close }: ByteSource, { start, end }: ByteRange): ByteSource {
  let position = 0;
  return {
    async read(view) {
      const skipped = new Uint8Array(position < start ? SKIPPED_BYTES : 0);
      while (position < start) {
        const bytes = await read(skipped.subarray(0, start - position));
        if (bytes === 0) return 0;
        position += bytes;
      }
      if (position > end) return 0;
      const bytes = await read(view.subarray(0, end + 1 - position));
      position += bytes;
      return bytes;
    },
    close,
  };
}

function stream(
  first: ByteSource,
  {
    reopen,
    stop,
    source,
  }: { readonly reopen: Reopen | undefined; readonly stop: AbortController; readonly source: BodySource },
): ReadableStream<Uint8Array> {
  let content = first;
  let received = 0;
  let resumes = 0;
  let isClosed = false;

  async function next(view: Uint8Array): Promise<number> {
    try {
      return await content.read(view);
    } catch (cause) {
      const canResume = reopen && !isClosed && resumes++ < MAX_RESUMES && !isTimeout(cause);
      const rest = canResume ? await reopen(received).catch(() => undefined) : undefined;
      source.signal?.throwIfAborted();
      // The first error says more than why resuming failed.
      if (!rest) throw connectionFailure(cause, source.attempt);
      content = rest.content;
      return next(view);
    }
  }

  return createByteStream({
    async read(view) {
      const bytes = await next(view);
      received += bytes;
      return bytes;
    },
    async close() {
      isClosed = true;
      await content.close();
      stop.abort();
    },
  });
}

/** The same bytes; the stream fails at its end unless they have the digest. */
function verify(body: ReadableStream<Uint8Array>, digest: Digest, fault: Error): ReadableStream<Uint8Array> {
  const verifier = createVerifier({ digest });
  return body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        verifier.update(chunk);
        controller.enqueue(chunk);
      },
      flush() {
        try {
          verifier.finish();
        } catch (cause) {
          throw cause instanceof ContentMismatch ? fault : cause;
        }
      },
    }),
  );
}

/** The same bytes, the first of which are already read: throws what that throws. */
async function inspect(body: ReadableStream<Uint8Array>): Promise<ReadableStream<Uint8Array>> {
  const reader = body.getReader();
  const seen: Uint8Array[] = [];
  let isOver = false;
  for (let size = 0; size <= MAX_INSPECTED && !isOver; ) {
    const { done, value } = await reader.read();
    isOver = done;
    if (value) {
      seen.push(value);
      size += value.byteLength;
    }
  }
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = seen.shift() ?? (isOver ? undefined : (await reader.read()).value);
        if (chunk) controller.enqueue(chunk);
        else controller.close();
      },
      cancel: reason => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
