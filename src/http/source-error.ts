// What an API request gets for an image that cannot be had.
import { RegistryError } from '../oci/errors.ts';
import { ApiError } from './api-error.ts';

/**
 * A RegistryError as the API shows it, with the image's name in front; any other error as it is.
 * 400 is the only status that clients show to people; 429 and 503 are ones that they retry, where it is said when.
 */
export function sourceError(error: unknown, image: string): unknown {
  if (!(error instanceof RegistryError)) return error;
  const message = `${image}: ${error.message}`;
  const { status, retryAfterSeconds } = error;
  const options = { cause: error, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) };
  if (status === 429) return new RegistryError('TOOMANYREQUESTS', message, options);
  const passes = status === 503 && retryAfterSeconds !== undefined;
  return passes ? new RegistryError('UNAVAILABLE', message, options) : new ApiError(400, message, { cause: error });
}
