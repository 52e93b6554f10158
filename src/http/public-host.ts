// The host that clients reach us by: what images to pull are named after.
import { ApiError } from './api-error.ts';

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/;

/** The host of `publicUrl`, else the request's own where it is loopback: any other Host header is only a client's claim. */
export function publicHost(publicUrl: string | undefined, host: string | undefined): string {
  if (publicUrl) return new URL(publicUrl).host;
  if (host && LOOPBACK.test(host)) return host;
  throw new ApiError(400, 'the address that images are pulled from is not configured: set publicUrl in veneer.yaml');
}
