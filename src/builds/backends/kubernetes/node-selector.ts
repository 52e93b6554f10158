// Node selectors: the labels for the pods of a platform, from the configured map.
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../../../oci/platform.ts';

export type Labels = Readonly<Record<string, string>>;
/** Labels by key: a platform in any spelling, `noarch` or `default`. */
export type NodeSelectors = Readonly<Record<string, Labels>>;

/** For pods that build several platforms. */
const NOARCH = 'noarch';
/** For platforms without a key. */
const DEFAULT = 'default';

/** The platforms with a key, normalised, without duplicates, in the order of the map. */
export function listSelected(selectors: NodeSelectors): readonly Platform[] {
  const platforms = platformKeys(selectors).map(key => parsePlatform(key));
  return [...new Map(platforms.map(platform => [formatPlatform(platform), platform])).values()];
}

/**
 * The required node labels: by the key that equals the platform's text, else by an equivalent one, longest first, else by `default`. For
 * several platforms: by `noarch`, else by `default`. Undefined where there is none.
 */
export function findSelector(selectors: NodeSelectors, platforms: readonly Platform[]): Labels | undefined {
  const [platform] = platforms;
  const key = platform && platforms.length === 1 ? findKey(selectors, platform) : NOARCH;
  return labelsOf(selectors, key) ?? labelsOf(selectors, DEFAULT);
}

function findKey(selectors: NodeSelectors, platform: Platform): string | undefined {
  const text = formatPlatform(platform);
  if (Object.hasOwn(selectors, text)) return text;
  const same = platformKeys(selectors).filter(key => isSamePlatform(parsePlatform(key), platform));
  return same.toSorted((a, b) => b.length - a.length)[0];
}

function platformKeys(selectors: NodeSelectors): readonly string[] {
  return Object.keys(selectors).filter(key => key !== NOARCH && key !== DEFAULT);
}

function labelsOf(selectors: NodeSelectors, key: string | undefined): Labels | undefined {
  return key !== undefined && Object.hasOwn(selectors, key) ? selectors[key] : undefined;
}

/** In the usual form: `service=wave-build,zone=a`. */
export function formatLabels(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}
