// Errors of builds, as the API shows them.
import { QueueFull } from '../builds/builds.ts';
import { InvalidContext } from '../builds/context/invalid-context.ts';
import { UnsupportedPlatform } from '../builds/executor/platforms.ts';
import { InvalidBuild } from '../builds/request.ts';
import { RegistryError } from '../oci/errors.ts';
import { ApiError } from './api-error.ts';

const RETRY_AFTER_SECONDS = 30;

/**
 * What cannot be built becomes a 400, what cannot be taken now a 429, and what cannot be built while a builder does not answer a 503. Any
 * other error stays as it is.
 */
export function toBuildError(error: unknown): unknown {
  if (error instanceof QueueFull) return passing('TOOMANYREQUESTS', error);
  if (error instanceof UnsupportedPlatform && error.isPassing) return passing('UNAVAILABLE', error);
  const isFault = [InvalidBuild, InvalidContext, UnsupportedPlatform].some(known => error instanceof known);
  return isFault && error instanceof Error ? new ApiError(400, error.message, { cause: error }) : error;
}

function passing(code: 'TOOMANYREQUESTS' | 'UNAVAILABLE', cause: Error): RegistryError {
  return new RegistryError(code, cause.message, { retryAfterSeconds: RETRY_AFTER_SECONDS, cause });
}
