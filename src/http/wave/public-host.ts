// The host by which clients reach us, used in the names of images to pull.
import { isRegistryHost } from '../../oci/reference.ts';
import type { Origins } from '../../pull/origin.ts';
import { ApiError } from '../../submit/errors.ts';

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/;

/**
 * The host of `publicUrl`, else that of the request if it is loopback: any other Host header is only a claim of the client.
 */
export function findPublicHost(publicUrl: string | undefined, host: string | undefined): string | undefined {
  if (publicUrl) return new URL(publicUrl).host;
  return host && LOOPBACK.test(host) ? host : undefined;
}

/** The same where an image name requires it. Throws ApiError. */
export function publicHost(publicUrl: string | undefined, host: string | undefined): string {
  const found = findPublicHost(publicUrl, host);
  if (found) return found;
  throw new ApiError(400, 'images have no address to be pulled from: set publicUrl in veneer.yaml');
}

// The name of an image for clients.

/**
 * `image` is the full name with its tag. Hosted images and those of an alias are named by our own host: only we know the alias. Without a
 * host it is the full name.
 */
export function imageAddress(image: string, origins: Pick<Origins, 'locateName'>, host: string | undefined): string {
  const repository = image.slice(0, image.lastIndexOf(':'));
  const isElsewhere = isRegistryHost(repository.slice(0, repository.indexOf('/')));
  const isNamed = isElsewhere && !origins.locateName(repository).registry.isHosted;
  return isNamed || host === undefined ? image : `${host}/${image}`;
}
