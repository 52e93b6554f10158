// Which key of the map a platform finds: its own text first, then what means the same, the longest first, then the default.
import { array, assert, constantFrom, property, record, uniqueArray } from 'fast-check';
import { expect, test } from 'vitest';
import {
  findSelector,
  formatLabels,
  listSelected,
  type NodeSelectors,
} from '../../../../src/builds/backends/kubernetes/node-selector.ts';
import { formatPlatform, isSamePlatform, parsePlatform } from '../../../../src/oci/platform.ts';

const WAVE: NodeSelectors = {
  'linux/amd64': { service: 'wave-build' },
  'linux/arm64': { service: 'wave-build-arm64' },
};

const find = (selectors: NodeSelectors, ...platforms: readonly string[]) =>
  findSelector(selectors, platforms.map(parsePlatform));

test.each<[string, NodeSelectors, string, string | undefined]>([
  ['its own text', WAVE, 'linux/arm64', 'wave-build-arm64'],
  ['a bare architecture', WAVE, 'arm64', 'wave-build-arm64'],
  ['a variant that is the architecture itself', WAVE, 'linux/arm64/v8', 'wave-build-arm64'],
  ['an alias', WAVE, 'linux/x86_64', 'wave-build'],
  ['a key that is an alias', { aarch64: { service: 'a' } }, 'linux/arm64', 'a'],
  ['arm as arm/v7', { 'linux/arm': { service: 'a' } }, 'linux/arm/v7', 'a'],
  ['no other variant', { 'linux/arm': { service: 'a' } }, 'linux/arm/v6', undefined],
  [
    'its text before what means the same',
    { 'linux/arm': { service: 'a' }, 'linux/arm/v7': { service: 'b' } },
    'arm',
    'b',
  ],
  ['the longest of what means the same', { arm: { service: 'a' }, 'linux/arm': { service: 'b' } }, 'linux/arm/v7', 'b'],
  ['the default where it has none', { ...WAVE, default: { service: 'any' } }, 'linux/s390x', 'any'],
  ['nothing', WAVE, 'linux/s390x', undefined],
  ['nothing of what every object has', {}, 'linux/constructor', undefined],
])('a platform finds %s', (_, selectors, platform, service) => {
  expect(find(selectors, platform)?.service).toBe(service);
});

test('several platforms at once find noarch, else the default, and no key of one of them', () => {
  expect(find({ ...WAVE, noarch: { service: 'all' } }, 'linux/amd64', 'linux/arm64')).toEqual({ service: 'all' });
  expect(find({ ...WAVE, default: { service: 'any' } }, 'linux/amd64', 'linux/arm64')).toEqual({ service: 'any' });
  expect(find(WAVE, 'linux/amd64', 'linux/arm64')).toBeUndefined();
});

test('the platforms of a map are its keys, normalised, each once', () => {
  const selectors = { 'linux/arm': {}, default: {}, 'linux/arm/v7': {}, noarch: {}, aarch64: {} };
  expect(listSelected(selectors).map(formatPlatform)).toEqual(['linux/arm/v7', 'linux/arm64']);
});

test('labels are reported as they are written', () => {
  expect(formatLabels({ service: 'wave-build', zone: 'a' })).toBe('service=wave-build,zone=a');
});

const SPELLINGS = [
  'linux/amd64',
  'amd64',
  'x86-64',
  'linux/arm64',
  'arm64/v8',
  'linux/arm64/v8',
  'aarch64',
  'linux/arm',
]
  .concat(['linux/arm/v7', 'armhf', 'linux/arm/v6', 'armel', 'linux/s390x', 'windows/amd64'])
  .filter(text => text !== 'arm64/v8');

test('whatever the spellings and their order: the same platform finds the same, a key that means it, and the default only without one', () => {
  const keys = uniqueArray(constantFrom(...SPELLINGS));
  assert(
    property(record({ keys, asked: constantFrom(...SPELLINGS), order: array(constantFrom(...SPELLINGS)) }), given => {
      const mapOf = (names: readonly string[]): NodeSelectors =>
        Object.fromEntries([...names.map(key => [key, { key }]), ['default', { key: 'default' }]]);
      const platform = parsePlatform(given.asked);
      const found = findSelector(mapOf(given.keys), [platform])?.key ?? '';
      const same = given.keys.filter(key => isSamePlatform(parsePlatform(key), platform));
      if (same.length === 0) return found === 'default';
      const text = formatPlatform(platform);
      const longest = Math.max(...same.map(key => key.length));
      const isBest = same.includes(text) ? found === text : found.length === longest;
      const reversed = findSelector(mapOf(given.keys.toReversed()), [platform])?.key ?? '';
      return same.includes(found) && isBest && reversed.length === found.length;
    }),
  );
});
