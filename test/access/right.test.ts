// Patterns of repositories, and what they allow.
import { describe, expect, test } from 'vitest';
import { createRightTest, findPatternFault, verbs } from '../../src/access/right.ts';

describe('a pattern', () => {
  test.each([
    ['local/**', 'local/app', true],
    ['local/**', 'local/team/app', true],
    ['local/**', 'local', false],
    ['local/**', 'localhost:5000/app', false],
    ['local/**', 'locals/app', false],
    ['local/**', 'docker.io/local/app', false],
    ['local/**', 'local/../secret', false],
    ['local/*', 'local/app', true],
    ['local/*', 'local/a.b-c_d', true],
    ['local/*', 'local/team/app', false],
    ['local/team-*/**', 'local/team-a/app', true],
    ['local/team-*/**', 'local/team/app', false],
    ['**', 'docker.io/library/alpine', true],
    ['*', 'alpine', true],
    ['*', 'docker.io/library/alpine', false],
    ['docker.io/library/*', 'docker.io/library/alpine', true],
    ['docker.io/library/*', 'dockerxio/library/alpine', false],
    ['**/app', 'local/team/app', true],
    ['local/**/app', 'local/app', true],
    ['127.0.0.1:5000/**', '127.0.0.1:5000/app', true],
    ['local/app', 'local/app', true],
    ['local/app', 'local/app2', false],
  ])('%s for %s: %s', (pattern, repository, isMatch) => {
    expect(findPatternFault(pattern)).toBeUndefined();
    expect(createRightTest([{ repositories: [pattern], allow: ['pull'] }])('pull', repository)).toBe(isMatch);
  });

  test.each([
    '',
    '/',
    'local/',
    '/local',
    'local//app',
    'local/a**',
    'local/***',
    'local/{a,b}',
    'local/[ab]',
    'local/?',
    '!local/**',
    'local/@(a)',
    'Local/app',
    'local/app ',
    'local\\app',
    `${'a/'.repeat(127)}aa`,
  ])('"%s" is refused', pattern => {
    expect(findPatternFault(pattern)).toMatch(/^expected a pattern/);
  });
});

describe('a permission', () => {
  test.each(verbs.flatMap(allowed => verbs.map(verb => ({ allowed, verb }))))(
    'to $allowed, asked for $verb',
    ({ allowed, verb }) => {
      const isAllowed = createRightTest([{ repositories: ['local/**'], allow: [allowed] }]);
      expect(isAllowed(verb, 'local/app')).toBe(allowed === verb);
      expect(isAllowed(verb, 'other/app')).toBe(false);
    },
  );

  test('adds to others, and to no other pattern', () => {
    const isAllowed = createRightTest([
      { repositories: ['local/a', 'local/b'], allow: ['pull'] },
      { repositories: ['local/b'], allow: ['push'] },
    ]);
    expect(isAllowed('pull', 'local/b')).toBe(true);
    expect(isAllowed('push', 'local/b')).toBe(true);
    expect(isAllowed('push', 'local/a')).toBe(false);
  });

  test('of nothing allows nothing', () => {
    expect(createRightTest([])('pull', 'local/app')).toBe(false);
  });
});
