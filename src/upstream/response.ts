// Answers: what their headers say, and how to let go of one.
import type { Dispatcher } from 'undici';

export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** A day: an upstream must not send a client away for ever. */
const MAX_RETRY_AFTER_SECONDS = 86_400;

/** Lets go of a body that nobody will read. */
export function discard({ body }: Dispatcher.ResponseData): void {
  // A body that is destroyed before its end says so, and without a listener that ends the process.
  body.on('error', () => {}).destroy();
}

/** What is wrong with the coding of a body, if anything: a digest is of the bytes as they are. */
export function findCoding({ headers }: Dispatcher.ResponseData): string | undefined {
  const coding = headers['content-encoding'] ?? 'identity';
  return coding === 'identity' ? undefined : 'the body is encoded, though we asked for identity';
}

export function contentLength({ headers }: Dispatcher.ResponseData): number | undefined {
  const text = headers['content-length'];
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The media type alone, in lower case; empty where there is none. */
export function contentType(headers: ResponseHeaders): string {
  return [headers['content-type'] ?? []].flat()[0]?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
}

/** The ETag, where equal ones mean equal bytes. */
export function strongEtag({ etag }: ResponseHeaders): string | undefined {
  return typeof etag === 'string' && /^"[\x21\x23-\x7e]*"$/.test(etag) ? etag : undefined;
}

/** The seconds of a Retry-After header, at most a day. A date counts from the Date of the same answer: clocks differ. */
export function parseRetryAfter(headers: ResponseHeaders): number | undefined {
  const { 'retry-after': value, date } = headers;
  if (typeof value !== 'string') return undefined;
  const now = parseDate(date);
  const seconds = /^\d+$/.test(value)
    ? Number(value)
    : Math.ceil((parseDate(value) - (Number.isNaN(now) ? Date.now() : now)) / 1000);
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(0, seconds), MAX_RETRY_AFTER_SECONDS);
}

/** In milliseconds; NaN for what is no HTTP date. */
function parseDate(text: unknown): number {
  return typeof text === 'string' && text.endsWith(' GMT') ? Date.parse(text) : Number.NaN;
}
