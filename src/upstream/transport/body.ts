// Response bodies as streams that resume: a broken transfer is continued by Range.
import type { Dispatcher } from 'undici';
import type { ByteRange } from '../../oci/bytes.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { ContentMismatch, createVerifier } from '../../oci/verify.ts';
import { badAnswer, connectionFailure, isTimeout, Outage, type RequestContext } from '../failure.ts';
import type { BlobBody } from '../upstream.ts';
import {
  type Answer,
  contentLength,
  discard,
  encodedFault,
  findCoding,
  type ReportWait,
  singleHeader,
  strongEtag,
} from './response.ts';

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
  const body = stream(first.chunks, { reopen, stop, source });
  if (coding === undefined || source.digest === undefined || source.range) return { body, size, coding };
  const verified = verify(body, source.digest, badAnswer(source.attempt, encodedFault(coding)));
  return { body: await inspect(verified), size, coding };
}

/** Opens the rest after the received bytes. */
type Reopen = (received: number) => Promise<Part>;

interface Part {
  readonly chunks: AsyncIterator<Uint8Array>;
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
  const chunks = response.body[Symbol.asyncIterator]();
  if (range ? isPart(response, range) : isWhole(response)) {
    return { ...properties, chunks: reportingWaits(chunks, response.unbound()) };
  }
  // Many servers ignore a Range and send everything. Content with a digest is the same again; otherwise its ETag must match.
  const isSame = digest !== undefined || (etag !== undefined && properties.etag === etag);
  if (range && isWhole(response) && isSame && hasPart(properties, range)) {
    return {
      ...properties,
      chunks: cut(reportingWaits(chunks, response.unbound()), range),
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
    if (hasPart(whole, range)) return { ...whole, chunks: cut(whole.chunks, range) };
    await whole.chunks.return?.();
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

/** Only time spent waiting counts: the reader may be slow. */
async function* reportingWaits(chunks: AsyncIterator<Uint8Array>, reportWait: ReportWait): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const since = performance.now();
      const next = await chunks.next();
      if (next.done) return;
      reportWait(performance.now() - since, next.value.byteLength);
      yield next.value;
    }
  } finally {
    await chunks.return?.();
  }
}

/** The range within the whole. */
async function* cut(chunks: AsyncIterator<Uint8Array>, { start, end }: ByteRange): AsyncGenerator<Uint8Array> {
  let position = 0;
  for (let next = await chunks.next(); !next.done; next = await chunks.next()) {
    const part = next.value.subarray(Math.max(0, start - position), Math.max(0, end + 1 - position));
    position += next.value.byteLength;
    if (part.byteLength > 0) yield part;
    if (position > end) break;
  }
  await chunks.return?.();
}

function stream(
  first: AsyncIterator<Uint8Array>,
  {
    reopen,
    stop,
    source,
  }: { readonly reopen: Reopen | undefined; readonly stop: AbortController; readonly source: BodySource },
): ReadableStream<Uint8Array> {
  let chunks = first;
  let received = 0;
  let resumes = 0;

  async function next(): Promise<IteratorResult<Uint8Array>> {
    try {
      return await chunks.next();
    } catch (cause) {
      const canResume = reopen && resumes++ < MAX_RESUMES && !isTimeout(cause);
      const rest = canResume ? await reopen(received).catch(() => undefined) : undefined;
      source.signal?.throwIfAborted();
      // The first error says more than why resuming failed.
      if (!rest) throw connectionFailure(cause, source.attempt);
      chunks = rest.chunks;
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
