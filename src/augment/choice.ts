// The choice of platforms: which images of a source are wanted, and the error when some are not there.
import { RegistryError } from '../oci/errors.ts';
import { formatPlatform, isSamePlatform, normalizePlatform, type Platform, parsePlatforms } from '../oci/platform.ts';
import type { Choice } from './steps.ts';

/** The platforms asked for, each once; undefined when all are. */
export function chosenPlatforms({ platforms }: Pick<Choice, 'platforms'>): readonly Platform[] | undefined {
  return platforms && parsePlatforms(platforms.join(','));
}

export function isChosen(platform: Platform, chosen: readonly Platform[] | undefined): boolean {
  return chosen?.some(wanted => isSamePlatform(wanted, platform)) ?? true;
}

/** Throws MANIFEST_UNKNOWN, naming what is missing and what there is, unless all chosen ones are available. */
export function checkAvailable(chosen: readonly Platform[] | undefined, available: readonly Platform[]): void {
  const lacking = (chosen ?? []).filter(platform => !isChosen(platform, available));
  if (lacking.length === 0) return;
  const has = list(available) || 'no image at all';
  throw new RegistryError('MANIFEST_UNKNOWN', `no image for ${list(lacking)}; there is ${has}`);
}

function list(platforms: readonly Platform[]): string {
  return [...new Set(platforms.map(platform => formatPlatform(normalizePlatform(platform))))].join(', ');
}
