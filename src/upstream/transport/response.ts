// Answers: what their headers say, and how to let go of one.
import type { Dispatcher } from 'undici';

/** An answer whose body has to be there within the time that a document may take. */
export interface Answer extends Dispatcher.ResponseData {
  /** Lets the body take longer, as it is the content of a blob, and gives what it has to keep to instead. */
  readonly unbound: () => ReportWait;
}

/** To be told of each wait for bytes. Throws where too few of them have come for too long. */
export type ReportWait = (waitedMs: number, bytes: number) => void;

export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** A day: an upstream must not send a client away for ever. */
const MAX_RETRY_AFTER_SECONDS = 86_400;

/** Lets go of a body that nobody will read. */
export function discard({ body }: Dispatcher.ResponseData): void {
  // A body that is destroyed before its end says so, and without a listener that ends the process.
  body.on('error', () => {}).destroy();
}

/**
 * The codings that an answer says its body has; undefined for none. We ask for none, and some that say one have none: stores that keep what
 * an upload said of itself, and servers that go by a file's first bytes. Only the digest of the bytes tells. RFC 9110 section 8.4.
 */
export function findCoding(headers: ResponseHeaders): string | undefined {
  const codings = [headers['content-encoding'] ?? []].flat().join(',').split(',');
  const named = codings.map(coding => coding.trim().toLowerCase()).filter(coding => !['', 'identity'].includes(coding));
  return named.length > 0
    ? named
        .join(', ')
        .slice(0, 80)
        .replace(/[^\x20-\x7e]/g, '?')
    : undefined;
}

/** What is wrong with bytes that are not the promised ones, where an answer has named a coding. */
export function encodedFault(coding: string): string {
  return `the body is encoded (content-encoding: ${coding}), though we asked for identity`;
}

/** A header that must not be there twice; where it is, and says the same, it counts once. */
export function singleHeader(headers: ResponseHeaders, name: string): string | undefined {
  const [first, ...others] = [headers[name] ?? []].flat();
  return others.every(other => other === first) ? first : undefined;
}

export function contentLength({ headers }: Dispatcher.ResponseData): number | undefined {
  const text = singleHeader(headers, 'content-length');
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
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
