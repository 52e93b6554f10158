// The tag of a layer cache: shared by builds that have use for each other's layers.
import { expect, test } from 'vitest';
import { cacheImage } from '../../../src/builds/executor/build-input.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { parseSpec } from '../../support/build-backends.ts';

const platforms = ['linux/amd64', 'linux/arm64'].map(parsePlatform);
const base = { cacheRepository: 'local/cache', platforms: ['linux/amd64', 'linux/arm64'] };
const nameOf = (fields: object) => cacheImage(parseSpec({ ...base, ...fields }), platforms);

test('is none where there is no repository for it', () => {
  expect(cacheImage(parseSpec(), platforms)).toBeUndefined();
});

test.each([
  ['context', { context: { digest: `sha256:${'0'.repeat(64)}`, size: 1 } }],
  ['arguments', { args: { A: '1' } }],
  ['bases', { bases: { alpine: `sha256:${'1'.repeat(64)}` } }],
  ['target', { target: { repository: 'local/other' } }],
])('is shared by builds of another %s', (_name, fields) => {
  expect(nameOf(fields)).toBe(nameOf({}));
});

test('is another one for another file or stage', () => {
  expect(new Set([nameOf({}), nameOf({ containerFile: 'FROM a' }), nameOf({ stage: 'b' })]).size).toBe(3);
});

test('is another one for other platforms, in whatever order they come', () => {
  const spec = parseSpec(base);
  expect(cacheImage(spec, platforms.toReversed())).toBe(cacheImage(spec, platforms));
  expect(cacheImage(spec, platforms.slice(1))).not.toBe(cacheImage(spec, platforms));
});
