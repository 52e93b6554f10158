// Platforms: one spelling for each.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  formatPlatform,
  InvalidPlatform,
  isSamePlatform,
  normalizePlatform,
  parsePlatform,
  parsePlatforms,
} from '../../src/oci/platform.ts';

test.each([
  ['amd64', 'linux/amd64'],
  ['linux/x86_64', 'linux/amd64'],
  ['linux/x86-64', 'linux/amd64'],
  ['linux/amd64/v1', 'linux/amd64'],
  ['linux/amd64/v3', 'linux/amd64/v3'],
  ['Linux/AMD64', 'linux/amd64'],
  ['i386', 'linux/386'],
  ['linux/aarch64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['linux/arm64/8', 'linux/arm64'],
  ['linux/arm64/v9', 'linux/arm64/v9'],
  ['arm', 'linux/arm/v7'],
  ['linux/arm/6', 'linux/arm/v6'],
  ['armhf', 'linux/arm/v7'],
  ['armel', 'linux/arm/v6'],
  ['linux/armv5', 'linux/arm/v5'],
  [' windows/amd64 ', 'windows/amd64'],
  ['linux/riscv64', 'linux/riscv64'],
  ['linux/constructor/v1', 'linux/constructor/v1'],
])('spells %s as %s', (text, expected) => {
  expect(formatPlatform(parsePlatform(text))).toBe(expected);
});

test.each([
  '',
  '/',
  'linux/',
  '/amd64',
  'linux/arm/',
  'linux/arm/v7/x',
  'linux/a b',
  'linux/__proto__',
  'a'.repeat(33),
])('refuses "%s"', text => {
  expect(() => parsePlatform(text)).toThrow(InvalidPlatform);
});

test.each([
  ['arm', 'v7', 'arm', undefined, true],
  ['arm64', 'v8', 'aarch64', undefined, true],
  ['amd64', undefined, 'x86_64', 'v1', true],
  ['arm', 'v6', 'arm', 'v7', false],
  ['amd64', 'v2', 'amd64', undefined, false],
])('%s/%s and %s/%s: the same is %s', (a, aVariant, b, bVariant, expected) => {
  const platform = (architecture: string, variant?: string) => ({
    os: 'linux',
    architecture,
    ...(variant && { variant }),
  });
  expect(isSamePlatform(platform(a, aVariant), platform(b, bVariant))).toBe(expected);
});

test('a list keeps its order and drops what it has already, however spelt', () => {
  expect(parsePlatforms('arm64, amd64,linux/aarch64,linux/arm/v7,arm').map(formatPlatform)).toEqual([
    'linux/arm64',
    'linux/amd64',
    'linux/arm/v7',
  ]);
  expect(() => parsePlatforms('')).toThrow(InvalidPlatform);
  expect(() => parsePlatforms('amd64,')).toThrow(InvalidPlatform);
});

const foreign = fc.oneof(
  fc.string(),
  fc.constantFrom('arm', 'ARM64', 'aarch64', 'armhf', 'amd64', 'i386', 'v1', 'v8', '7', 'constructor', '__proto__'),
);

test('normalizing twice changes nothing more, whatever an index says', () => {
  fc.assert(
    fc.property(foreign, foreign, fc.option(foreign), (os, architecture, variant) => {
      const once = normalizePlatform({ os, architecture, ...(variant !== null && { variant }) });
      expect(normalizePlatform(once)).toEqual(once);
    }),
  );
});

test('any text is a platform that can be written and read again, or an InvalidPlatform', () => {
  const text = fc.oneof(
    fc.string(),
    fc.array(foreign, { minLength: 1, maxLength: 3 }).map(words => words.join('/')),
  );
  fc.assert(
    fc.property(text, given => {
      try {
        const platform = parsePlatform(given);
        expect(parsePlatform(formatPlatform(platform))).toEqual(platform);
      } catch (error) {
        if (!(error instanceof InvalidPlatform)) throw error;
      }
    }),
  );
});
