// What an API request gets for an image that cannot be had.
import { RegistryError } from '../oci/errors.ts';
import { ApiError } from './api-error.ts';

/**
 * A RegistryError as the API shows it, with the image's name in front; any other error as it is.
 * 400 is the only status that clients show to people, and 429 one that they retry after its Retry-After.
 */
export function sourceError(error: unknown, image: string): unknown {
  if (!(error instanceof RegistryError)) return error;
  const message = `${image}: ${error.message}`;
  if (error.status !== 429) return new ApiError(400, message, { cause: error });
  const { retryAfterSeconds } = error;
  return new RegistryError('TOOMANYREQUESTS', message, {
    cause: error,
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  });
}
