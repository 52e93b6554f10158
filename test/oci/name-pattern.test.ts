// Globs of operators meet names that whoever pulls has chosen.
import { expect, test } from 'vitest';
import { createNameTest, isQuickGlob } from '../../src/oci/name-pattern.ts';

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
    const startedAt = performance.now();
    expect(names.map(matches)).toEqual(names.map(() => false));
    expect(performance.now() - startedAt).toBeLessThan(5000);
  },
);
