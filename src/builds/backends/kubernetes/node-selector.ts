// Which nodes the pods of a platform go to: the labels that its key of the configured map asks for.
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../../../oci/platform.ts';

export type Labels = Readonly<Record<string, string>>;
/** Labels by key: a platform in any spelling, `noarch` or `default`. */
export type NodeSelectors = Readonly<Record<string, Labels>>;

/** For pods that are for several platforms at once. */
const NOARCH = 'noarch';
/** For platforms that have no key. */
const DEFAULT = 'default';

/** The platforms that have a key, normalised, each once, in the order of the map. */
export function listSelected(selectors: NodeSelectors): readonly Platform[] {
  const platforms = platformKeys(selectors).map(key => parsePlatform(key));
  return [...new Map(platforms.map(platform => [formatPlatform(platform), platform])).values()];
}

/**
 * The labels that a node has to have: by the key that is the platform's text, else by one that means the same, the longest first, else by
 * `default`. Of several platforms at once: by `noarch`, else by `default`. Undefined where there is none.
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

/** As it is written: `service=wave-build,zone=a`. */
export function formatLabels(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}
