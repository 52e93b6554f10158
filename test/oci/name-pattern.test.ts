// Globs of operators meet names that clients choose.
import fc from 'fast-check';
import picomatch from 'picomatch';
import { expect, test } from 'vitest';
import { createNameTest, isQuickGlob } from '../../src/oci/name-pattern.ts';
import { measureThreadMs } from '../support/thread-time.ts';

const LONGEST = 255;

test.each([
  '**',
  'docker.io/**',
  'docker.io/library/{alpine,debian}',
  '**/team-*/**/app-*',
  '*/**/*-debug-*',
  'ghcr.io/org/!(*-internal)',
  'ghcr.io/**/[a-z]*-?*-*',
])('takes %s', glob => {
  expect(isQuickGlob(glob)).toBe(true);
});

test.each([
  'ghcr.io/*-*-*-*x',
  '**/*a*a*a*x',
  'r.io/!(x)!(x)!(x)!(x)y',
  '**/**/**/**/**/**/x*',
  'r.io/+(*a)b',
  'r.io/*(a|a?)x',
])('does not take %s: some name would keep everybody waiting', glob => {
  expect(isQuickGlob(glob)).toBe(false);
});

test.each(['*/*a*a*x', '**/a/**/a/**/a/**/x*', '**/*a*/**/ax*', 'r.io/!(*a)*x', '*/**/*-*-*x'])(
  '%s is soon done with the longest names',
  glob => {
    expect(isQuickGlob(glob)).toBe(true);
    const matches = createNameTest([glob]);
    const names = ['a', 'a-', 'a/', 'aa/', 'aaaaaaa/', 'ab'].map(part =>
      `r.io/${part.repeat(LONGEST)}`.slice(0, LONGEST),
    );
    const look = () => expect(names.map(matches)).toEqual(names.map(() => false));
    expect(measureThreadMs(look)).toBeLessThan(5000);
  },
);

const component = fc
  .string({ unit: fc.constantFrom('a', 'b', '.', '-'), minLength: 1, maxLength: 5 })
  .filter(text => /^[ab].*[ab]$|^[ab]$/.test(text));
const name = fc.array(component, { minLength: 1, maxLength: 4 }).map(parts => parts.join('/'));
const starred = fc.string({ unit: fc.constantFrom('a', 'b', '.', '-', '*'), minLength: 1, maxLength: 5 });
const glob = fc
  .array(fc.oneof(fc.constant('**'), starred), { minLength: 1, maxLength: 4 })
  .map(parts => parts.join('/'))
  .filter(text => !text.startsWith('.'));

test('a glob of nothing but stars matches what picomatch matches', () => {
  const options = { dot: true, strictSlashes: true, nonegate: true };
  const property = fc.property(glob, name, (pattern, text) => {
    expect(createNameTest([pattern])(text)).toBe(picomatch(pattern, options)(text));
  });
  fc.assert(property, { numRuns: 20_000 });
});

test('many stars take no longer than the product of both lengths', () => {
  const isName = createNameTest([`${'*a'.repeat(60)}b/**`, `${'**/*a*a/'.repeat(15)}b`]);
  const look = () => {
    for (let i = 0; i < 100; i += 1) {
      expect(isName(`${'a'.repeat(200)}/x`)).toBe(false);
      expect(isName('aaa/'.repeat(60))).toBe(false);
    }
  };
  // They were for ever.
  expect(measureThreadMs(look)).toBeLessThan(5000);
});
