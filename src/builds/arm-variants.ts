// What a builder can build beyond what it lists: whatever runs the code of one arm, a CPU or an emulator, runs that of every older one.
import { formatPlatform, type Platform } from '../oci/platform.ts';

const ARM_VARIANTS = ['v5', 'v6', 'v7'];

/** Normalised platforms, with the older variants of each arm, each once. BuildKit lists v7 and v6, and builds v5 all the same. */
export function withOlderArms(platforms: readonly Platform[]): readonly Platform[] {
  const all = platforms.flatMap(platform => [platform, ...olderArms(platform)]);
  return [...new Map(all.map(platform => [formatPlatform(platform), platform])).values()];
}

function olderArms({ os, architecture, variant = '' }: Platform): readonly Platform[] {
  const newer = architecture === 'arm' ? ARM_VARIANTS.indexOf(variant) : -1;
  return ARM_VARIANTS.slice(0, Math.max(newer, 0))
    .reverse()
    .map(older => ({ os, architecture, variant: older }));
}
