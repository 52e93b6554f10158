// Errors of the registry API: one class, and one table from code to HTTP status.

/** Every code of distribution-spec "Error Codes", and UNKNOWN for what has none. The value is the status that the code has by default. */
const STATUS_BY_CODE = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 404,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  RANGE_INVALID: 416,
  SIZE_INVALID: 400,
  TAG_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  UNAVAILABLE: 503,
  UNKNOWN: 500,
} as const;

export type ErrorCode = keyof typeof STATUS_BY_CODE;

/** The only error that clients see: `message` is shown to people and must hold no secret. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly code: ErrorCode;
  readonly status: number;
  readonly detail: unknown;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: ErrorOptions & {
      /** The HTTP status, where it differs from the code's own: an upstream's, or 502 and 504 for an upstream that failed. */
      readonly status?: number;
      /** What went wrong, for programs; JSON, free of secrets. */
      readonly detail?: unknown;
      /** How long a client should wait before it tries again, in seconds: becomes Retry-After. */
      readonly retryAfterSeconds?: number;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status ?? STATUS_BY_CODE[code];
    this.detail = options.detail;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(STATUS_BY_CODE, text);
}

/** Maps errors with one of `statuses` to undefined: the registry does not have it. */
export async function orUndefined<T>(work: Promise<T>, statuses: readonly number[] = [404]): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof RegistryError && statuses.includes(cause.status)) return undefined;
    throw cause;
  }
}
