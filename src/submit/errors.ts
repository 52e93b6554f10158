// Errors of the API: each message names the field or the image, the rule, and the remedy.
import { InvalidLayer } from '../augment/budget.ts';
import { QueueFull } from '../builds/builds.ts';
import { InvalidContext } from '../builds/context/tree.ts';
import { UnsupportedPlatform } from '../builds/executor/platforms.ts';
import { InvalidBuild } from '../builds/request.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';

/** `message` is shown to people, and must hold no secret. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** The HTTP status. */
  readonly status: number;

  constructor(status: number, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.status = status;
  }
}

/** Clients only show the message of a 400, so anything that prevents augmentation is reported as one. */
export function toApiError(error: unknown, image: string): unknown {
  if (error instanceof InvalidLayer) return new ApiError(400, error.message, { cause: error });
  if (error instanceof ContentMismatch) return new ApiError(400, `${image}: ${error.message}`, { cause: error });
  return toSourceError(error, image);
}

/**
 * A RegistryError of an image as reported by the API, prefixed with the image's name; any other error is returned unchanged. A 429, and a
 * 503 with a Retry-After, keep their status: clients retry those.
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
 * An unsupported build becomes a 400, a full queue a 429, and a build whose builder currently does not answer a 503. Any other error is
 * returned unchanged.
 */
export function toBuildError(error: unknown): unknown {
  if (error instanceof QueueFull) return retryLater('TOOMANYREQUESTS', error);
  if (error instanceof UnsupportedPlatform && error.isTransient) return retryLater('UNAVAILABLE', error);
  const isFault = [InvalidBuild, InvalidContext, UnsupportedPlatform].some(known => error instanceof known);
  return isFault && error instanceof Error ? new ApiError(400, error.message, { cause: error }) : error;
}

function retryLater(code: 'TOOMANYREQUESTS' | 'UNAVAILABLE', cause: Error): RegistryError {
  return new RegistryError(code, cause.message, { retryAfterSeconds: RETRY_AFTER_SECONDS, cause });
}
