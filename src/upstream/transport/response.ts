// Response headers, and discarding responses.
import type { Dispatcher } from 'undici';
import type { ByteSource } from '../../content/byte-stream.ts';

/** A response with a deadline for its body, as for documents. */
export interface Answer extends Dispatcher.ResponseData {
  /**
   * The body as the content of a blob: with a minimum rate instead of the deadline, and copied from the connection to the views that are
   * read. The stream `body` has nothing from then on. A read throws what breaks the body; the caller closes it.
   */
  readonly takeContent: () => ByteSource;
}

export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** A day: an upstream must not block clients for ever. */
const MAX_RETRY_AFTER_SECONDS = 86_400;

/** Discards a body that will not be read. */
export function discard({ body }: Dispatcher.ResponseData): void {
  // Destroying an unfinished body emits an error, which without a listener ends the process.
  body.on('error', () => {}).destroy();
}

/**
 * The Content-Encoding that an answer claims; undefined for none. We request none, and some claims are wrong: stores that record what an
 * upload claimed, and servers that guess by content. Only the digest of the bytes decides. RFC 9110 section 8.4.
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

/** The explanation for wrong bytes where an answer claimed an encoding. */
export function encodedFault(coding: string): string {
  return `the body is encoded (content-encoding: ${coding}), though we asked for identity`;
}

/** A header that must not be repeated; identical repetitions count once. */
export function singleHeader(headers: ResponseHeaders, name: string): string | undefined {
  const [first, ...others] = [headers[name] ?? []].flat();
  return others.every(other => other === first) ? first : undefined;
}

export function contentLength({ headers }: Dispatcher.ResponseData): number | undefined {
  const text = singleHeader(headers, 'content-length');
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** Only the media type, in lower case; empty where there is none. */
export function contentType(headers: ResponseHeaders): string {
  return [headers['content-type'] ?? []].flat()[0]?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
}

/** The ETag, if it is strong. */
export function strongEtag({ etag }: ResponseHeaders): string | undefined {
  return typeof etag === 'string' && /^"[\x21\x23-\x7e]*"$/.test(etag) ? etag : undefined;
}

/** The seconds of a Retry-After header, at most a day. A date is relative to the Date of the same answer: clocks differ. */
export function parseRetryAfter(headers: ResponseHeaders): number | undefined {
  const { 'retry-after': value, date } = headers;
  if (typeof value !== 'string') return undefined;
  const now = parseDate(date);
  const seconds = /^\d+$/.test(value)
    ? Number(value)
    : Math.ceil((parseDate(value) - (Number.isNaN(now) ? Date.now() : now)) / 1000);
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(0, seconds), MAX_RETRY_AFTER_SECONDS);
}

/** In milliseconds; NaN for an invalid HTTP date. */
function parseDate(text: unknown): number {
  return typeof text === 'string' && text.endsWith(' GMT') ? Date.parse(text) : Number.NaN;
}
