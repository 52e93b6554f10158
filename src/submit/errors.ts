// Errors of the API, in words for people: each names the field or the image, the rule, and the remedy.
import { InvalidLayer } from '../augment/budget.ts';
import { QueueFull } from '../builds/builds.ts';
import { InvalidContext } from '../builds/context/tree.ts';
import { UnsupportedPlatform } from '../builds/executor/platforms.ts';
import { InvalidBuild } from '../builds/request.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';

/** `message` is shown to people as it is, and must hold no secret. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** Of HTTP. */
  readonly status: number;

  constructor(status: number, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.status = status;
  }
}

/** Whatever keeps an image from being augmented is the request's fault to clients: only a 400 is shown to people as it is. */
export function toApiError(error: unknown, image: string): unknown {
  if (error instanceof InvalidLayer) return new ApiError(400, error.message, { cause: error });
  if (error instanceof ContentMismatch) return new ApiError(400, `${image}: ${error.message}`, { cause: error });
  return toSourceError(error, image);
}

/**
 * A RegistryError of an image as the API shows it, with the image's name in front; any other error as it is. A 429, and a 503 that says when to
 * try again, stay what they are: clients retry those.
 */
export function toSourceError(error: unknown, image: string): unknown {
  if (!(error instanceof RegistryError)) return error;
  const message = `${image}: ${error.message}`;
  const { status, retryAfterSeconds } = error;
  const options = { cause: error, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) };
  if (status === 429) return new RegistryError('TOOMANYREQUESTS', message, options);
  const isRetried = status === 503 && retryAfterSeconds !== undefined;
  return isRetried ? new RegistryError('UNAVAILABLE', message, options) : new ApiError(400, message, { cause: error });
}

const RETRY_AFTER_SECONDS = 30;

/**
 * What cannot be built becomes a 400, what finds the queue full a 429, and what cannot be built while a builder does not answer a 503. Any other
 * error stays as it is.
 */
export function toBuildError(error: unknown): unknown {
  if (error instanceof QueueFull) return retryLater('TOOMANYREQUESTS', error);
  if (error instanceof UnsupportedPlatform && error.isPassing) return retryLater('UNAVAILABLE', error);
  const isFault = [InvalidBuild, InvalidContext, UnsupportedPlatform].some(known => error instanceof known);
  return isFault && error instanceof Error ? new ApiError(400, error.message, { cause: error }) : error;
}

function retryLater(code: 'TOOMANYREQUESTS' | 'UNAVAILABLE', cause: Error): RegistryError {
  return new RegistryError(code, cause.message, { retryAfterSeconds: RETRY_AFTER_SECONDS, cause });
}
