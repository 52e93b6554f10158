// Errors of a bucket: which are retried, and when, and what they mean, as messages for the operator. Errors of the SDK contain headers and the
// signature of the request, so only their name and status are used.
import type { StandardRetryStrategyOptions } from '@smithy/core/retry';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { StorageFailure } from './store.ts';

/** The message names the remedy if it is known, and contains no secret. */
export class BucketFault extends Error {
  override readonly name = 'BucketFault';
  /** Whether it may be temporary: the service does not answer, or is overloaded. */
  readonly isAway: boolean;

  constructor(message: string, { isAway }: { readonly isAway: boolean }) {
    super(message);
    this.isAway = isAway;
  }
}

const RIGHTS =
  's3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucketMultipartUploads and s3:AbortMultipartUpload';
const KEY = 'check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the configured profile or role';

const REMEDIES: Readonly<Record<string, string>> = {
  NoSuchBucket: 'it does not exist: create it, or correct content.s3.bucket',
  AccessDenied: `the credentials lack a right: they need ${RIGHTS}`,
  InvalidAccessKeyId: `the access key is unknown: ${KEY}`,
  SignatureDoesNotMatch: `the secret key is wrong: ${KEY}`,
  ExpiredToken: `the credentials have expired: ${KEY}`,
  RequestTimeTooSkewed: 'the clock of this machine is wrong',
  PermanentRedirect: 'it is in another region: correct content.s3.region or content.s3.endpoint',
  AuthorizationHeaderMalformed: 'it is in another region: correct content.s3.region',
  // As versitygw says it.
  XAdminUserNotFound: `the access key is unknown: ${KEY}`,
  CredentialsProviderError: `no credentials were found: ${KEY}`,
};

/** Undefined for an error that is not the service's: unexpected bytes, an unreadable file, a client that left. */
export function findBucketFault(error: unknown, bucket: string): BucketFault | undefined {
  if (!(error instanceof Error)) return undefined;
  const status = statusOf(error);
  if (error.message.includes('Region is missing'))
    return new BucketFault('no region is set: set content.s3.region, or AWS_REGION', { isAway: false });
  const isOfService =
    status !== undefined || 'code' in error || isTimeout(error) || Object.hasOwn(REMEDIES, error.name);
  if (!isOfService || OTHERS.some(other => error instanceof other)) return undefined;
  const remedy = REMEDIES[error.name] ?? (status === 403 ? REMEDIES.AccessDenied : undefined);
  const isAway = remedy === undefined && (status === undefined || status >= 500 || status === 429 || status === 408);
  const isBusy = error.name === 'SlowDown' || status === 429;
  const does = isBusy ? 'asks for fewer requests' : 'does not answer';
  if (isAway) return new BucketFault(`the object store ${does} (${reasonOf(error, status)})`, { isAway });
  return new BucketFault(`the bucket ${bucket} cannot be used: ${remedy ?? reasonOf(error, status)}`, { isAway });
}

const OTHERS = [BucketFault, ContentMismatch, StorageFailure, RegistryError];

function reasonOf(error: Error, status: number | undefined): string {
  if (isTimeout(error)) return 'a time-out';
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  return status === undefined ? code : `${code}, status ${status}`;
}

/** A timeout of the SDK, or of a signal as reported by the SDK. */
function isTimeout(error: Error): boolean {
  return error.name === 'TimeoutError' || (error.cause instanceof Error && error.cause.name === 'TimeoutError');
}

function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  const isObject = typeof metadata === 'object' && metadata !== null && 'httpStatusCode' in metadata;
  return isObject && typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}

/** Whether an object is absent, rather than the bucket. */
export function isAbsent(error: unknown): boolean {
  return error instanceof Error && ['NoSuchKey', 'NotFound'].includes(error.name);
}

/** Why a conditional write was refused: the object exists or is being written, or the service does not support conditions. */
export function findRefusal(error: unknown): 'exists' | 'unknown' | undefined {
  const status = statusOf(error);
  if (status === 409 || status === 412) return 'exists';
  return status === 501 ? 'unknown' : undefined;
}

/** Milliseconds before a retry, the first of which is number 0. */
export type DelayOf = (retry: number, isThrottled: boolean) => number;

const MAX_ATTEMPTS = 9;
const MAX_DELAY_MS = 2_000;

/**
 * 11 seconds in all for a service that is away. If it asks for fewer requests, they come later, up to 27 seconds in all, and at random, so that
 * they do not all come again at the same time.
 */
export const retryDelay: DelayOf = (retry, isThrottled) =>
  isThrottled
    ? (1 + Math.random()) * Math.min(MAX_DELAY_MS, 500 * 2 ** retry)
    : Math.min(MAX_DELAY_MS, 200 * 2 ** retry);

/**
 * For the SDK's standard strategy, which says what is retried. Each request needs one of its own: it limits the retries of all its requests
 * together, so that of many that wait at the same time only some would be retried. `onThrottled` is called before each retry of a request
 * that was one too many.
 */
export function retryOptions(
  { throttlingDelay }: { readonly throttlingDelay: () => number },
  { delayMs, onThrottled }: { readonly delayMs: DelayOf; readonly onThrottled: () => void },
): StandardRetryStrategyOptions {
  let isThrottled = false;
  const backoff = {
    setDelayBase(ms: number) {
      isThrottled = ms === throttlingDelay();
      if (isThrottled) onThrottled();
    },
    computeNextBackoffDelay: (retry: number) => delayMs(retry, isThrottled),
  };
  return { maxAttempts: MAX_ATTEMPTS, backoff };
}
