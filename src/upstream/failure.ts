// Turns an upstream's failure into a RegistryError, without secrets, query strings or the upstream's own words.
import { type Dispatcher, errors } from 'undici';
import { z } from 'zod';
import { createPieces } from '../oci/bytes.ts';
import { type ErrorCode, isErrorCode, RegistryError } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import { ForbiddenAddress } from './transport/connector.ts';
import { parseRetryAfter } from './transport/response.ts';

const MAX_ERROR_BYTES = 64 * 1024;

const errorSchema = z.object({ errors: z.array(z.object({ code: z.string() })).min(1) });

/** The operation, for messages, and the code of a 404 where the upstream gives none. */
export interface RequestContext {
  readonly upstream: string;
  readonly action: string;
  readonly missing: ErrorCode;
  readonly keys?: ConfigKeys | undefined;
}

/** The configuration keys that messages name as the remedy. */
export interface ConfigKeys {
  /** The key of its address, such as `upstreams.docker.io.url`. */
  readonly url: string;
  /** Absent where the credentials are not from the configuration. */
  readonly credentials?: string | undefined;
}

/** The upstream as a whole is failing, as far as one call can tell: unreachable, hanging, cutting off, or answering 5xx. */
export class Outage extends RegistryError {}

/** The error for a request without an answer, or with a broken body. A RegistryError is returned as it is. */
export function connectionFailure(cause: unknown, { upstream, action, keys }: RequestContext): Error {
  if (cause instanceof RegistryError) return cause;
  if (cause instanceof ForbiddenAddress) {
    const reason = `${cause.message}: an entry of upstreams opens it, or layers.allowPrivateAddresses for a layer's URL`;
    return new RegistryError('DENIED', `${upstream}: ${action}: ${reason}`, { cause });
  }
  if (isTimeout(cause)) {
    return new Outage('UNKNOWN', `${upstream}: ${action}: timed out: try again later`, {
      status: 504,
      cause: withoutDetails(cause),
    });
  }
  const options = { status: 502, cause: withoutDetails(cause) };
  const message = `${upstream}: ${action}: ${reasonOf(cause)}`;
  if (cause instanceof TooLong) return new RegistryError('UNKNOWN', message, options);
  return new Outage('UNKNOWN', keys ? `${message}: ${remedyOf(cause, keys.url)}` : message, options);
}

/** What helps, by the code of the error. A name that does not resolve is most often a typing error in an image's name. */
function remedyOf(cause: unknown, key: string): string {
  const code = codeIn(cause) ?? '';
  if (['ENOTFOUND', 'EAI_AGAIN'].includes(code)) {
    return `its name does not resolve: check the name of the registry, or ${key}`;
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
    return `it does not speak TLS there: write ${key} with http:// if it is plain HTTP, or correct the port`;
  }
  if (UNKNOWN_CA.includes(code)) {
    return `its certificate is of a CA that Veneer does not know: set ${key.replace(/url$/, 'tls.ca')}`;
  }
  if (code === 'CERT_HAS_EXPIRED') return 'its certificate has expired, and its operator has to renew it';
  return `check ${key}, and whether Veneer can reach it`;
}

const UNKNOWN_CA: readonly string[] = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
];

/** A library's error reduced to its message: logs show every field, and HTTPParserError contains the answer's bytes. */
function withoutDetails(cause: unknown): Error {
  return new Error(cause instanceof Error ? `${cause.name}: ${cause.message}` : 'not an error');
}

/** The upstream answered, but not as requested. */
export function badAnswer({ upstream, action }: RequestContext, reason: string, cause?: unknown): RegistryError {
  return new RegistryError('UNKNOWN', `${upstream}: ${action}: ${reason}`, { status: 502, cause });
}

/** The error for an answer with status 4xx or 5xx; reads the body to its end. */
export async function responseFailure(
  response: Dispatcher.ResponseData,
  attempt: RequestContext,
): Promise<RegistryError> {
  const { statusCode, headers } = response;
  const own = await readCode(response);
  const retryAfterSeconds = parseRetryAfter(headers);
  const message = (code: ErrorCode) => {
    const remedy = remedyFor(code, attempt, retryAfterSeconds);
    return `${attempt.upstream}: ${attempt.action}: status ${statusCode} (${code})${remedy && `: ${remedy}`}`;
  };
  if (statusCode === 429 || own === 'TOOMANYREQUESTS') {
    const options = retryAfterSeconds === undefined ? {} : { retryAfterSeconds };
    return new RegistryError('TOOMANYREQUESTS', message('TOOMANYREQUESTS'), options);
  }
  // The upstream is healthy, but does not have it.
  if (statusCode === 501) return new RegistryError('UNSUPPORTED', message('UNSUPPORTED'), { status: 502 });
  if (statusCode >= 500) {
    return new Outage('UNKNOWN', message('UNKNOWN'), { status: statusCode === 504 ? 504 : 502 });
  }
  const code = own ?? codeOf(statusCode, attempt);
  return new RegistryError(code, message(code), { status: statusCode });
}

function remedyFor(code: ErrorCode, { keys }: RequestContext, retryAfterSeconds: number | undefined): string {
  const key = keys?.credentials;
  switch (code) {
    case 'UNAUTHORIZED':
    case 'DENIED':
      return key ? `there is no such repository, or ${key} are missing, wrong or without a right to it` : '';
    case 'NAME_UNKNOWN':
      return 'check the name';
    case 'MANIFEST_UNKNOWN':
      return 'check the name and the tag';
    case 'TOOMANYREQUESTS':
      return `try again ${inSeconds(retryAfterSeconds)}${key ? `; ${key} may have a higher limit` : ''}`;
    case 'UNKNOWN':
      return 'try again later';
    default:
      return '';
  }
}

/** Such as "in 60 s"; "later" if unknown. */
function inSeconds(seconds: number | undefined): string {
  return seconds === undefined ? 'later' : `in ${Math.max(1, Math.ceil(seconds))} s`;
}

function codeOf(status: number, { missing }: RequestContext): ErrorCode {
  const codes: Readonly<Record<number, ErrorCode>> = {
    401: 'UNAUTHORIZED',
    403: 'DENIED',
    404: missing,
    405: 'UNSUPPORTED',
    416: 'RANGE_INVALID',
  };
  return codes[status] ?? 'UNKNOWN';
}

async function readCode({ body }: Dispatcher.ResponseData): Promise<ErrorCode | undefined> {
  try {
    const bytes = await readLimited(body, MAX_ERROR_BYTES);
    const code = errorSchema.safeParse(parseJson(bytes)).data?.errors[0]?.code;
    return code && isErrorCode(code) ? code : undefined;
  } catch {
    // A body that is broken, too long or not JSON has no code; only the status counts.
    return undefined;
  }
}

/** More bytes than the reader accepts. */
export class TooLong extends Error {
  override readonly name = 'TooLong';
}

/** The whole body. Throws TooLong for more than `maxBytes`, after dropping the connection. */
export async function readLimited(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const pieces = createPieces();
  let size = 0;
  for await (const piece of body) {
    size += piece.byteLength;
    if (size > maxBytes) throw new TooLong(`more than ${maxBytes} bytes`);
    pieces.add(piece);
  }
  return pieces.join();
}

/** Whether the other side was silent for too long. */
export function isTimeout(cause: unknown): boolean {
  return [errors.ConnectTimeoutError, errors.HeadersTimeoutError, errors.BodyTimeoutError].some(
    type => cause instanceof type,
  );
}

function reasonOf(cause: unknown): string {
  if (cause instanceof TooLong) return cause.message;
  const code = codeIn(cause);
  return code === undefined ? 'connection failed' : `connection failed (${code})`;
}

/** Of the system, or of TLS. */
function codeIn(cause: unknown): string | undefined {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}
