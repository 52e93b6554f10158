// Platforms: os/arch[/variant], normalised. image-spec image-index.md, "platform"; aliases like containerd's.

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
}

/** Text that is not a platform, or one that cannot exist. */
export class InvalidPlatform extends Error {
  override readonly name = 'InvalidPlatform';
}

// Maps, not objects: the keys come from foreign indexes, and an object would inherit `constructor`.
/** An alias: the architecture and, where it implies one, the variant. */
const ALIASES: ReadonlyMap<string, readonly [architecture: string, variant?: string]> = new Map([
  ['x86_64', ['amd64']],
  ['x86-64', ['amd64']],
  ['i386', ['386']],
  ['i686', ['386']],
  ['aarch64', ['arm64']],
  ['armhf', ['arm', 'v7']],
  ['armel', ['arm', 'v6']],
  ['armv5', ['arm', 'v5']],
  ['armv6', ['arm', 'v6']],
  ['armv7', ['arm', 'v7']],
]);

/** Default variants, which can be dropped. */
const DEFAULT_VARIANTS: ReadonlyMap<string, readonly string[]> = new Map([
  ['amd64', ['v1']],
  ['arm64', ['v8', '8', 'v8.0']],
]);

/** Single words that are not an architecture. */
const SYSTEMS: readonly (string | undefined)[] = [
  'linux',
  'windows',
  'darwin',
  'freebsd',
  'netbsd',
  'openbsd',
  'wasip1',
];

/** Longer text is not a platform. */
const MAX_TEXT = 128;
const WORD = /^[a-z0-9][a-z0-9._-]{0,31}$/;

/** Parses `os/arch[/variant]` or a bare `arch` (with os linux), case-insensitively, with aliases resolved. Throws InvalidPlatform. */
export function parsePlatform(text: string): Platform {
  const words = text.slice(0, MAX_TEXT).trim().toLowerCase().split('/');
  const [os, architecture, variant] = words.length === 1 ? ['linux', ...words] : words;
  if (
    text.length > MAX_TEXT ||
    words.length > 3 ||
    SYSTEMS.includes(architecture) ||
    !os ||
    !architecture ||
    ![os, architecture, variant ?? os].every(word => WORD.test(word))
  ) {
    throw new InvalidPlatform(
      `"${text.slice(0, 80)}" is not a platform; expected os/arch[/variant], such as linux/arm64 or linux/arm/v7`,
    );
  }
  return normalizePlatform({ os, architecture, ...(variant && { variant }) });
}

/** The normalised platform: aliases resolved, default variants dropped, `arm` as `arm/v7`. */
export function normalizePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  const given = platform.architecture.toLowerCase();
  const [architecture, aliasVariant] = ALIASES.get(given) ?? [given];
  const variant = normalizeVariant(architecture, platform.variant?.toLowerCase() || aliasVariant);
  return { os, architecture, ...(variant && { variant }) };
}

function normalizeVariant(architecture: string, variant: string | undefined): string | undefined {
  if (architecture === 'arm') return variant ? variant.replace(/^(\d)$/, 'v$1') : 'v7';
  return variant && DEFAULT_VARIANTS.get(architecture)?.includes(variant) ? undefined : variant;
}

export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter(Boolean).join('/');
}

/** Whether both are the same platform, however they are spelt. */
export function isSamePlatform(a: Platform, b: Platform): boolean {
  return formatPlatform(normalizePlatform(a)) === formatPlatform(normalizePlatform(b));
}

/** A comma-separated list without duplicates, in order. Throws InvalidPlatform, also for an empty list. */
export function parsePlatforms(text: string): readonly Platform[] {
  const platforms = new Map<string, Platform>();
  for (const part of text.split(',')) {
    const platform = parsePlatform(part);
    platforms.set(formatPlatform(platform), platform);
  }
  return [...platforms.values()];
}
