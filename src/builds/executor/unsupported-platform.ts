// The error for a platform that nothing here can build: what it may have meant, and what there is instead.
import { distance } from 'fastest-levenshtein';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import type { ContainerFileSpec } from '../spec.ts';
import type { Offer } from './survey.ts';

/** `message` is for people: each platform that cannot be built, and what can. */
export class UnsupportedPlatform extends Error {
  override readonly name = 'UnsupportedPlatform';
  readonly platforms: readonly Platform[];
  /** Whether a backend that might have done it does not answer now. */
  readonly isPassing: boolean;

  constructor(platforms: readonly Platform[], offers: readonly Offer[], spec: ContainerFileSpec) {
    super([...platforms.map(describe), listOffers(platforms, offers, spec)].join('; '));
    this.platforms = platforms;
    this.isPassing = offers.some(({ fault }) => fault !== undefined);
  }
}

/** What images are commonly made for, and other spellings of the same. */
const KNOWN = [
  ...['linux/amd64', 'linux/arm64', 'linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7', 'linux/386', 'linux/ppc64le'],
  ...[
    'linux/s390x',
    'linux/riscv64',
    'linux/loong64',
    'linux/mips64',
    'linux/mips64le',
    'windows/amd64',
    'windows/arm64',
  ],
  ...['linux/x86_64', 'linux/x86-64', 'linux/aarch64', 'linux/armhf', 'linux/armel', 'linux/i386'],
] as const;

const MAX_DISTANCE = 2;

function describe(platform: Platform): string {
  const meant = findMeant(platform);
  return `${formatPlatform(platform)} cannot be built here${meant === undefined ? '' : ` (did you mean ${meant}?)`}`;
}

/** The known platform whose spelling is closest, unless none is close, or it is one already. */
function findMeant(platform: Platform): string | undefined {
  const text = formatPlatform(platform);
  const [closest] = KNOWN.map(known => ({ known, far: distance(text, known) })).sort((a, b) => a.far - b.far);
  if (!closest || closest.far > MAX_DISTANCE) return undefined;
  const meant = parsePlatform(closest.known);
  return isSamePlatform(meant, platform) ? undefined : formatPlatform(meant);
}

function listOffers(missing: readonly Platform[], offers: readonly Offer[], spec: ContainerFileSpec): string {
  if (offers.length === 0) return 'no builder is configured';
  return offers.map(offer => `${offer.backend.name} ${describeOffer(missing, offer, spec)}`).join('; ');
}

function describeOffer(missing: readonly Platform[], { backend, platforms, fault }: Offer, spec: ContainerFileSpec) {
  if (fault !== undefined) return `does not answer: ${fault}`;
  const builds = `builds ${platforms.map(formatPlatform).join(', ') || 'nothing now'}`;
  const obstacle = missing.some(platform => platforms.some(other => isSamePlatform(other, platform)))
    ? backend.findObstacle(spec)
    : undefined;
  return obstacle === undefined ? builds : `${builds}, but not this: ${obstacle}`;
}
