// What a registry says of its own limits. RFC 9110 has Retry-After; the RateLimit fields are those of the IETF's drafts and of Docker Hub.
import type { ResponseHeaders } from './response.ts';

/** Where a registry says no time, as Docker Hub does. */
const DEFAULT_RESET_SECONDS = 60;
const MAX_RESET_SECONDS = 3600;

/**
 * For how many seconds nothing is left of the limit; undefined where something is, or nothing is said. `RateLimit: "q";r=0;t=30`,
 * or `RateLimit-Remaining: 0` with `RateLimit-Reset: 30`, or with a window as in `0;w=21600`.
 */
export function parseExhausted(headers: ResponseHeaders): number | undefined {
  const combined = single(headers.ratelimit);
  const remaining = numberAfter(combined, /;\s*r=/) ?? numberAfter(single(headers['ratelimit-remaining']), /^\s*/);
  if (remaining !== 0) return undefined;
  const reset = numberAfter(combined, /;\s*t=/) ?? numberAfter(single(headers['ratelimit-reset']), /^\s*/);
  return Math.min(reset ?? DEFAULT_RESET_SECONDS, MAX_RESET_SECONDS);
}

function single(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : '';
}

function numberAfter(text: string, before: RegExp): number | undefined {
  const digits = new RegExp(`${before.source}(\\d{1,12})(?!\\d)`).exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
